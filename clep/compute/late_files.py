"""Files that another machine wrote, and that a shared file system shows here only later."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

LATE_S = 60.0


def wait_for_files(hidden: Callable[[], Sequence[str]], folder: Path) -> Sequence[str]:
    """Wait up to a minute for files that workers say they have written; return the names of those that do not show.

    Args:
        hidden: returns the names of those that do not show now.
        folder: where they should be.
    """
    until = time.monotonic() + LATE_S
    while (names := hidden()) and time.monotonic() < until:
        time.sleep(min(0.5, LATE_S))
        list(folder.glob("*"))  # makes a network file system look again
    return names
