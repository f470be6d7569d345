"""The JSON of a drill: one record per call, so that counts gather over days for as long as the code is the same."""

import ast
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


class _WithoutWording(ast.NodeTransformer):
    """Removes docstrings, and the texts of errors and of log lines."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        return _without_texts(node) if name.endswith("Error") or name.startswith("log.") else self.generic_visit(node)


def _without_texts(node: ast.AST) -> ast.AST:
    for inner in ast.walk(node):
        if isinstance(inner, ast.JoinedStr):
            inner.values = [part for part in inner.values if not isinstance(part, ast.Constant)]
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            inner.value = ""
    return node


def code_digest(parts: Sequence[str], root: Path = ROOT) -> str:
    """Return a digest of the source files that a drill concerns, given as paths below `clep/` of `root`.

    Comments, docstrings and the wording of errors and log lines do not count.
    """
    files = sorted(file for part in parts for file in _files(root / "clep" / part))
    found = hashlib.sha256()
    for file in files:
        tree = _WithoutWording().visit(ast.parse(file.read_text(encoding="utf-8")))
        found.update(f"{file.relative_to(root)}\0{ast.dump(tree)}\0".encode())
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
