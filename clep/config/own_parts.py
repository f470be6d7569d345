"""Parts of the user's own: a run records as text which it named, and commands print the options that they need.

A recorded name is never imported: what comes with a run folder may come from a stranger (see `targets`).
"""

import inspect
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clep.config.folder import config_folder
from clep.config.targets import ANYTHING, TARGET, Targets, find_parts, find_target, is_dotted, targets_in_folder
from clep.errors import InputError
from clep.files import write_json

RECORD = "parts.json"
_MOST_BYTES = 100_000


def record_parts(folder: Path, settings: Mapping[str, Any], config_dirs: Iterable[str] = ()) -> None:
    """Write `parts.json` into a run's folder if the run names parts from outside clep, or files of a config folder.

    Args:
        folder: of the run.
        settings: of the run, plain values.
        config_dirs: config folders that the user named.

    Raises:
        InputError: the folder cannot be written to.
    """
    usual = targets_in_folder(config_folder())
    parts = [
        {"key": key, "name": str(part[TARGET]), "file": _file(part[TARGET], key)}
        for key, part in find_parts(settings)
        if part[TARGET] not in usual and not str(part[TARGET]).startswith(("clep.", "torch.nn."))
    ]
    folders = [str(Path(one).resolve()) for one in config_dirs]
    if parts or folders:
        write_json(folder / RECORD, {"format": "clep-parts", "version": 1, "parts": parts, "config_dirs": folders})


@contextmanager
def explain_refusal(folder: Path, targets: Targets, config_dir: str | Path | None = None) -> Iterator[None]:
    """Add to an InputError of the block the options that the parts of a run need and that were not given.

    Args:
        folder: of the run.
        targets: names that may be imported.
        config_dir: config folder that was given.
    """
    try:
        yield
    except InputError as error:
        options = missing_options(folder, targets, config_dir)
        if not options:
            raise
        parts, _ = _read(folder / RECORD)
        refused = [
            f"{name} ({_shell_word(file)})" if file else name
            for name, file in parts.items()
            if not _is_allowed(name, targets)
        ]
        named = ", ".join(refused) or "a config folder"
        raise InputError(f"{error}. {folder} records {named}: if you trust them, add {options}") from error


def missing_options(folder: Path, targets: Targets, config_dir: str | Path | None = None) -> str:
    """Return the options that a run's recorded parts need, as one types them; empty if none is missing.

    Args:
        folder: of the run; its record is read as data.
        targets: names that may be imported already.
        config_dir: config folder that was given.
    """
    parts, folders = _read(folder / RECORD)
    modules = sorted({name.split(".")[0] for name in parts if not _is_allowed(name, targets)})
    options = [f"allow=[{','.join(modules)}]"] if modules else []
    return " ".join(options + [f"--config-dir {_shell_word(one)}" for one in folders if config_dir is None])


def _shell_word(text: str) -> str:
    return shlex.quote(text) if text.isprintable() else ascii(text)


def _is_allowed(name: str, targets: Targets) -> bool:
    try:
        targets.check(name, "")
    except InputError:
        return False
    return True


def _read(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the files of the recorded parts by name, and the config folders; nothing where there is no such record."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return {}, []
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = {part["name"]: str(part["file"] or "") for part in content["parts"] if is_dotted(part["name"])}
        return parts, [str(one) for one in content["config_dirs"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}, []


def _file(name: str, key: str) -> str:
    try:
        return inspect.getsourcefile(find_target(name, key, ANYTHING)) or ""
    except TypeError:  # built in, or an instance
        return ""
