"""What is shown while shards are made: videos, hours of video per hour, time left."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clep.extraction.ledger import read_lines


class Watcher:
    """Counts what journals tell.

    Arguments:
        journals: files that shards write while they are made, there or not yet.
    """

    def __init__(self, journals: Iterable[Path]) -> None:
        self._read = dict.fromkeys(journals, 0)
        self.through: dict[str, str] = {}
        self.video_s = 0.0
        self._started = perf_counter()

    def look(self) -> None:
        """Read what is new. A video that is encoded again after its shard's worker died counts once."""
        for path, start in self._read.items():
            lines, self._read[path] = read_lines(path, start)
            for line in lines:
                if "status" not in line:
                    continue
                if line["id"] not in self.through:
                    self.video_s += line["video_s"] or 0.0
                self.through[line["id"]] = line["status"]

    def hours_per_hour(self) -> float:
        """Return hours of video encoded in an hour, since this object was made."""
        return self.video_s / max(perf_counter() - self._started, 1e-9)


@contextmanager
def progress_bar(watcher: Watcher, total: int) -> Iterator[Progress]:
    """Show a bar where there is a terminal; `show` of what is yielded brings it up to date."""
    columns = (
        TextColumn("encoding videos"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed, {task.fields[rate]:.0f} h of video per hour"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not Console().is_terminal) as bar:
        bar.add_task("", total=total, failed=0, rate=0.0)
        yield bar
        show(bar, watcher)


def show(bar: Progress, watcher: Watcher) -> None:
    """Bring the bar up to date with the journals."""
    watcher.look()
    failed = sum(status == "failed" for status in watcher.through.values())
    bar.update(bar.task_ids[0], completed=len(watcher.through), failed=failed, rate=watcher.hours_per_hour())
