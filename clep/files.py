"""Files that are whole or absent: written under a temporary name beside their place, then renamed."""

import glob
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clep.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block succeeds, else delete it.

    Any exception, Ctrl-C and a full disk included, leaves a previous file at `path` untouched. The temporary
    name keeps the suffix of `path` and starts with a dot, so no reader takes it for a finished file.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Nothing was left there; free some space or "
            f"choose another folder, then run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def temporaries(path: str | Path) -> list[Path]:
    """Return the temporary files of `path`: what a killed writer left beside it, or one writes now."""
    path = Path(path)
    return sorted(path.parent.glob(f".{glob.escape(path.stem)}.{'[0-9a-f]' * 8}.tmp.*"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. Not-a-number becomes null, since JSON has no NaN."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        InputError: the file is missing, cannot be read, or is not JSON; the message names it and the line.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); it may be truncated: fetch it again") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
