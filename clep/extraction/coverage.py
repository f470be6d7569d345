"""Coverage report of a job: counts and lists of kept, skipped and failed items, as a table and as JSON."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clep.checksums import read_checked_json, write_checked_json
from clep.errors import InputError
from clep.extraction.items import printable
from clep.files import flush, open_input

Value = int | float | str | bool | None
SHOWN = 3
TAIL_BYTES = 1024


def coverage_path(output: str | Path) -> Path:
    """Return the path of an output's coverage: `X.coverage.json` beside `X.h5`."""
    return Path(output).with_suffix(".coverage.json")


class Coverage:
    """Counts and lists of one run of a job.

    Args:
        job: name of the job.
        output: the file that this run writes.
        inputs: digest of the input files (`file_digest`, `folder_digest`).
        settings: the options that the output depends on, JSON values.
    """

    def __init__(self, job: str, output: str | Path, inputs: str, settings: Mapping[str, Value]) -> None:
        self.job = job
        self.output = Path(output)
        self.inputs = inputs
        self.settings = dict(settings)
        self.counts: dict[str, Value] = {}
        self.lists: dict[str, list[str] | dict[str, str]] = {}
        self._started = time.perf_counter()

    def count(self, **values: Value) -> None:
        """Record counts or texts, shown in this order."""
        self.counts.update(values)

    def add_list(self, name: str, items: Iterable[str] | Mapping[str, str]) -> None:
        """Record a complete list of ids, or reasons by id; empty lists are recorded too."""
        if isinstance(items, Mapping):
            self.lists[name] = {printable(key): printable(reason) for key, reason in items.items()}
        else:
            self.lists[name] = [printable(str(item)) for item in items]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON content: job, output, inputs, settings, counts, complete lists, seconds the job took."""
        return {
            "job": self.job,
            "output": self.output.name,
            "inputs": self.inputs,
            "settings": self.settings,
            "counts": self.counts,
            "lists": self.lists,
            "seconds": round(time.perf_counter() - self._started, 3),
        }

    def write(self) -> dict[str, Any]:
        """Write the JSON beside the output, show the table, and return the JSON content."""
        result = self.as_dict()
        write_checked_json(coverage_path(self.output), result)
        console = Console()
        console.print(coverage_table(result))
        written = "complete lists" if any(self.lists.values()) else "written to"
        console.print(f"{written}: {coverage_path(self.output)}", soft_wrap=True, markup=False, highlight=False)
        return result

    def forget_last_run(self) -> None:
        """Remove the JSON of an earlier run, so that it never describes an output made from other inputs."""
        path = coverage_path(self.output)
        if path.exists():
            path.unlink(missing_ok=True)
            flush(path.parent)

    def last_run(self, opens: Callable[[Path], object]) -> dict[str, Any] | None:
        """Return the coverage of an earlier run if its inputs and settings are equal and its output can be opened.

        Args:
            opens: opens the output; raises InputError if it is missing, damaged or of an older format.
        """
        found = read_coverage(self.output)
        if found is None or found.get("inputs") != self.inputs or found.get("settings") != self.settings:
            return None
        try:
            opens(self.output)
        except InputError:
            return None
        return found


def read_coverage(output: str | Path) -> dict[str, Any] | None:
    """Return the coverage beside an output, None if either is missing or unreadable."""
    if not Path(output).exists() or not coverage_path(output).exists():
        return None
    try:
        return read_checked_json(coverage_path(output))
    except InputError:
        return None


def coverage_table(result: Mapping[str, Any]) -> Table:
    """Return the table of one coverage: a row per count, and a row per list with its length and first few items."""
    table = Table(title=f"{result['job']} ({result['seconds']:.1f} s)", title_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("first of them", overflow="fold")
    for name, value in result["counts"].items():
        table.add_row(escape(_words(name)), escape(_number(value)), "")
    for name, items in result["lists"].items():
        table.add_row(
            escape(_words(name)), _number(len(items)), escape(_first_few(items)), style="yellow" if items else None
        )
    return table


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _first_few(items: list[str] | dict[str, str]) -> str:
    lines = [f"{key}: {why}" for key, why in items.items()] if isinstance(items, dict) else list(items)
    more = [f"… {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    joint = "\n" if isinstance(items, dict) else ", "
    return joint.join(lines[:SHOWN] + more)


def file_digest(*paths: str | Path | None) -> str:
    """Digest files by their content, as 32 hex digits; None stands for an optional file that is not used.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        if path is None:
            digest.update(b"none")
            continue
        with open_input(path) as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def folder_digest(files: Iterable[Path]) -> str:
    """Digest many large files by name, size and last kilobyte, as 32 hex digits.

    The end of a `.pt` file is its zip directory, with checksums of the data, so features that were extracted again with
    the same names and sizes change the digest, while copying or touching the folder does not. An unreadable file counts
    by its name.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        digest.update(f"{path.name}\0".encode("utf-8", "surrogateescape"))
        try:
            if not path.is_file():
                raise FileNotFoundError
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - TAIL_BYTES))
                digest.update(f"{size}\0".encode())
                digest.update(file.read())
        except OSError:
            digest.update(b"unreadable\0")
    return digest.hexdigest()
