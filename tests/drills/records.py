"""The JSON of a drill: one record per call, so that counts gather over days for as long as the code is the same."""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clep.files import write_json
from clep.machine import this_machine

ROOT = Path(__file__).parents[2]


def code_digest(parts: Sequence[str]) -> str:
    """Return a digest of the source files that a drill concerns, given as paths below `clep/`."""
    files = sorted(file for part in parts for file in _files(ROOT / "clep" / part))
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return found.hexdigest()[:16]


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def add_record(path: Path, code: str, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Append a record to the JSON list at `path` and return all records of the same code."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    described = {
        "code": code,
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": this_machine(),
    }
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    records.append(described | record)
    write_json(path, records)
    return [one for one in records if one["code"] == code]
