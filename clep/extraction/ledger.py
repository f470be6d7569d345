"""Ledger: the status of each item as JSON lines beside the bank; journal of an unfinished shard; progress bar."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clep.checksums import block_digest
from clep.errors import InputError
from clep.files import atomic_path

logger = logging.getLogger(__name__)

Status = Literal["done", "skipped", "failed"]

MAX_DEATHS = 2
"""Crashes during an item after which it is skipped in this run."""


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        id: id of the item.
        status: "done"; "skipped" if there was nothing to do (no file, a duplicate id); "failed".
        reason: why it is not done; a remark if it is done.
        kind: class of the failure, if the job distinguishes several (see `FeatureFileError`).
        rows: row count.
        video_s: length of the video in seconds, None if unknown.
        seconds: wall-clock time.
        corrupt_packets: undecodable packets of the file, which were skipped.
        fingerprint: fingerprint of the item when it was read; it changes with the file.
        settings: digest of the settings of the rows (`RowSource.key`).
        final: whether a rerun would fail in the same way; a failure of the process (out of memory) is not final.

    Examples:
        >>> from clep.extraction import Entry
        >>> entry = Entry("kitchen", "failed", reason="kitchen.mp4 is empty: fetch it again")
        >>> entry.rows, entry.final
        (0, True)
    """

    id: str
    status: Status
    reason: str = ""
    kind: str = ""
    rows: int = 0
    video_s: float | None = None
    seconds: float = 0.0
    corrupt_packets: int = 0
    fingerprint: str = ""
    settings: str = ""
    final: bool = True


def ledger_path(output: str | Path) -> Path:
    """Return the path of a bank's ledger: `X.ledger.jsonl` beside `X.h5`."""
    return Path(output).with_suffix(".ledger.jsonl")


def write_ledger(path: Path, entries: Iterable[Entry]) -> None:
    """Write entries atomically, one JSON object with a checksum per line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for entry in entries:
            fields = asdict(entry)
            file.write(json.dumps(fields | {"checksum": _checksum(fields)}, ensure_ascii=False) + "\n")


def read_ledger(path: str | Path) -> list[Entry]:
    """Read the entries of a ledger.

    Raises:
        InputError: the file is missing or a line is damaged.
    """
    entries = []
    for number, entry in _read_entries(Path(path)):
        if isinstance(entry, Exception):
            raise InputError(
                f"{path}, line {number} is not a line of a ledger: {entry}; run the job again to write a new ledger"
            ) from entry
        entries.append(entry)
    return entries


def read_intact_entries(path: Path) -> list[Entry]:
    """Read the entries of a ledger, skipping damaged lines with a warning; their items are encoded again.

    Raises:
        InputError: the file is missing.
    """
    entries = list(_read_entries(path))
    intact = [entry for _, entry in entries if isinstance(entry, Entry)]
    if len(intact) < len(entries):
        logger.warning("%s: skipped %d damaged lines; their items are encoded again", path, len(entries) - len(intact))
    return intact


def _read_entries(path: Path) -> Iterator[tuple[int, Entry | Exception]]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read as a ledger: {error.strerror or error}") from error
    if not text:
        return
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n"), start=1):  # an id may hold other line ends
        try:
            fields = json.loads(line.decode())
            checksum = fields.pop("checksum")
            if checksum != _checksum(fields):
                raise ValueError("its checksum does not match")
            yield number, Entry(**fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            yield number, error


def _checksum(fields: dict[str, Any]) -> str:
    # Escape lone surrogates as the file's encoding does, so that the digests of written and read text agree.
    text = json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return f"{block_digest(text):016x}"


class Journal:
    """Log of an unfinished shard: a line when an item begins, and a line when it is finished.

    It survives a crash of its process, so that the next attempt knows the item at which that happened, and the waiting
    command can show progress.

    Args:
        path: the file; lines are appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def begin(self, item: str) -> None:
        """Record that an item is about to be encoded."""
        self._append({"begins": item})

    def finish(self, entry: Entry) -> None:
        """Record the result of an item."""
        self._append(asdict(entry))

    def stop(self, item: str, had_whole_time_limit: bool) -> None:
        """Record that an attempt was stopped during an item.

        Args:
            item: id of the item.
            had_whole_time_limit: whether the time limit was reached in an attempt that began with this item.
        """
        self._append({"stopped": item, "had_whole_time_limit": had_whole_time_limit})

    def suspects(self) -> set[str]:
        """Return the items under way when the process of an earlier attempt died; one of them may have caused it."""
        return {item for item, times in self._deaths()[0].items() if times > 0}

    def items_to_leave_out(self) -> dict[str, str]:
        """Return the reason by id of the items that the next attempt should skip, so that the others get done.

        These are items during which `MAX_DEATHS` attempts crashed, and items that take longer than the time limit. A
        preemption, or a time limit that was reached after other items, does not count.
        """
        deaths, reasons = self._deaths()
        died = "attempts ended while it was being encoded (out of memory, or a crash)"
        return reasons | {item: f"{times} {died}" for item, times in deaths.items() if times >= MAX_DEATHS}

    def _deaths(self) -> tuple[Counter[str], dict[str, str]]:
        """Return how often a process died with each item begun, and the reason by id of items that take too long."""
        deaths: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        for line in read_lines(self.path, 0)[0]:
            if "begins" in line:
                deaths[line["begins"]] += 1
                continue
            deaths[line["stopped"] if "stopped" in line else line["id"]] -= 1
            if line.get("had_whole_time_limit"):
                reasons[line["stopped"]] = "it takes longer than the time limit of a task"
        return deaths, reasons

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_lines(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Read the complete lines of a journal from byte `start`; also return the byte at which the next read starts.

    Invalid lines are skipped, since a network file system may show a line before its bytes.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            text = file.read()
    except OSError:
        return [], start
    whole, _, rest = text.rpartition(b"\n")
    lines = [found for line in whole.split(b"\n") if (found := _journal_line(line)) is not None]
    return lines, start + len(text) - len(rest)


def _journal_line(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    kinds = ({"begins"}, {"stopped"}, {"id", "status"})
    return found if isinstance(found, dict) and any(kind <= set(found) for kind in kinds) else None


class ProgressReader:
    """Counts finished items by reading journals.

    Args:
        journals: journals of unfinished shards; they need not exist yet.
    """

    def __init__(self, journals: Iterable[Path]) -> None:
        self._read = dict.fromkeys(journals, 0)
        self.status: dict[str, str] = {}
        self.video_s = 0.0
        self._started = perf_counter()

    def update(self) -> None:
        """Read new lines. An item that is encoded again after a crash counts once."""
        for path, start in self._read.items():
            lines, self._read[path] = read_lines(path, start)
            for line in lines:
                if "status" not in line:
                    continue
                if line["id"] not in self.status:
                    self.video_s += line.get("video_s") or 0.0
                self.status[line["id"]] = line["status"]

    def hours_per_hour(self) -> float:
        """Return hours of video encoded per hour since this object was created."""
        return self.video_s / max(perf_counter() - self._started, 1e-9)


@contextmanager
def progress_bar(reader: ProgressReader, noun: str, total: int) -> Iterator[Progress]:
    """Show a progress bar on a terminal; `update_bar` refreshes it."""
    columns = (
        TextColumn(f"encoding {noun}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[remarks]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not Console().is_terminal) as bar:
        bar.add_task("", total=total, remarks="")
        yield bar
        update_bar(bar, reader)


def update_bar(bar: Progress, reader: ProgressReader) -> None:
    """Refresh the bar from the journals."""
    reader.update()
    failed = sum(status == "failed" for status in reader.status.values())
    remarks = [f"{failed} failed"] if failed else []
    remarks += [f"{reader.hours_per_hour():.0f} h of video per hour"] if reader.video_s else []
    bar.update(bar.task_ids[0], completed=len(reader.status), remarks=", ".join(remarks))
