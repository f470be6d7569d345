"""The progress bar of work in one process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Column of items per second."""

    def __init__(self, noun: str) -> None:
        super().__init__()
        self.noun = noun

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self.noun}/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress_bar(
    what: str, total: int, shown: bool = True, noun: str = "", after_s: float = 0.0
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, removed when done; yields a function that advances it.

    Args:
        what: description of the work.
        total: number of items.
        shown: False for no bar.
        noun: what the items are, to show how many are done in a second; "" does not show it.
        after_s: seconds of work before the bar appears.
    """
    console = Console(stderr=True)
    rate = [_Rate(noun)] if noun else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *rate, TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True)
    task, started = bar.add_task(what, total=total), perf_counter()

    def advance(done: int) -> None:
        bar.advance(task, done)
        if not bar.live.is_started and perf_counter() - started >= after_s:
            bar.start()

    try:
        if not after_s:
            bar.start()
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
