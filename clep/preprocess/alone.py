"""Let one process at a time make an output."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clep.errors import InputError

logger = logging.getLogger(__name__)


@contextmanager
def alone(output: str | Path) -> Iterator[None]:
    """Hold the lock of `output` for the block; wait while another process holds it.

    The lock is the empty file `.<output>.lock` beside it. The system frees it when the process ends, however it ends.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    output = Path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        file = output.with_name(f".{output.name}.lock").open("w")
    except OSError as error:
        raise InputError(f"cannot write to the folder {output.parent}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process is making %s; waiting for it", output)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
