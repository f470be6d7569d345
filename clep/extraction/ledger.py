"""The ledger: what became of each video, as JSON lines beside the bank."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from clep.errors import InputError
from clep.files import atomic_path

Status = Literal["done", "skipped", "failed"]

DEATHS = 2
"""A video at which so many attempts died is left out of this run."""


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        id: of the video.
        status: "done"; "skipped" where there was nothing to decode (no file, an id twice); "failed".
        reason: why it is not done.
        rows: how many it gave.
        video_s: its length in seconds, None where unknown.
        seconds: of wall clock that it took.
        corrupt_packets: parts of the file that could not be decoded and were passed over.
        file: fingerprint of its file (see `VideoItem.fingerprint`), by which a replaced file is noticed.
        settings: digest of the settings that its rows were made with.
        final: whether another run would find the same; a failure of the process (out of memory, out of time) is not.
    """

    id: str
    status: Status
    reason: str = ""
    rows: int = 0
    video_s: float | None = None
    seconds: float = 0.0
    corrupt_packets: int = 0
    file: str = ""
    settings: str = ""
    final: bool = True


def ledger_path(output: str | Path) -> Path:
    """Return where the ledger of a bank lies: `X.ledger.jsonl` beside `X.h5`."""
    return Path(output).with_suffix(".ledger.jsonl")


def write_ledger(path: Path, entries: Iterable[Entry]) -> None:
    """Write entries, one JSON object a line, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)


def read_ledger(path: str | Path) -> list[Entry]:
    """Read the entries of a ledger.

    Raises:
        InputError: the file is missing or a line is not an entry.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a ledger: {error}") from error
    if not text:
        return []
    entries = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):  # an id may hold other line ends
        try:
            entries.append(Entry(**json.loads(line)))
        except (json.JSONDecodeError, TypeError) as error:
            raise InputError(f"{path}, line {number} is not a line of a ledger: {error}") from error
    return entries


class Journal:
    """The ledger of a shard while it is being made: a line when a video begins, a line when it is through.

    It survives the death of the process that writes it, so that another attempt knows at which video that was, and
    the command that waits can count.

    Arguments:
        path: of the file; lines are appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def begins(self, video: str) -> None:
        """Note that a video is about to be decoded."""
        self._append({"begins": video})

    def is_through(self, entry: Entry) -> None:
        """Note what became of a video."""
        self._append(asdict(entry))

    def stopped_at(self, video: str, had_all_the_time: bool) -> None:
        """Note that an attempt was told to end while a video was being encoded.

        Args:
            video: its id.
            had_all_the_time: the time limit was reached, and the attempt had begun with this video.
        """
        self._append({"stopped": video, "had_all_the_time": had_all_the_time})

    def left_out(self) -> dict[str, str]:
        """Return the videos that another attempt should leave out, so that the others come through; with the reason.

        Those at which so many attempts died, and those for which the time limit is too short. That an attempt was
        preempted, or that its time was over after other videos, says nothing about a video.
        """
        deaths: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        for line in read_lines(self.path, 0)[0]:
            if "begins" in line:
                deaths[line["begins"]] += 1
                continue
            deaths[line["stopped"] if "stopped" in line else line["id"]] -= 1
            if line.get("had_all_the_time"):
                reasons[line["stopped"]] = "it takes longer than the time limit of a task"
        died = "attempts ended while it was being encoded (out of memory, or a crash)"
        return reasons | {video: f"{times} {died}" for video, times in deaths.items() if times >= DEATHS}

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_lines(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Read the whole lines of a journal from byte `start`; also return where the next reading begins.

    Lines that are no JSON are passed over: a network file system may show a line before its bytes.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            text = file.read()
    except OSError:
        return [], start
    whole, _, rest = text.rpartition(b"\n")
    lines = [found for line in whole.split(b"\n") if (found := _object(line)) is not None]
    return lines, start + len(text) - len(rest)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    kinds = ({"begins"}, {"stopped"}, {"id", "status"})
    return found if isinstance(found, dict) and any(kind <= set(found) for kind in kinds) else None
