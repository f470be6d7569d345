"""Read a file in a forked process with a limit of time and memory, and say how it ended."""

import json
import os
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.errors import InputError

LIMIT_BYTES = 2 << 30


@dataclass(frozen=True)
class Reading:
    """How reading ended.

    Attributes:
        outcome: "read", "refused" (an `InputError` that names the file), or what the fault is, in capitals.
        value: what the reader returned, as JSON; None unless it was read.
        output: what the process wrote, with the traceback or the message.
    """

    outcome: str
    value: Any = None
    output: str = ""


def read_in_a_process(
    read: Callable[[Path], Any], path: Path, limit_s: int, names: tuple[str, ...] | None = None
) -> Reading:
    """Call `read(path)` in a forked process.

    Args:
        read: returns a JSON value.
        path: of the file.
        limit_s: after so many seconds the process is killed.
        names: an `InputError` has to contain one of these; None: the stem of the file's name.
    """
    receiving, sending = os.pipe()
    with tempfile.TemporaryFile() as log:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                found = _limited(read, path, limit_s, names or (path.stem,))
                os.write(sending, json.dumps(found).encode())
            finally:
                os._exit(0)
        os.close(sending)
        with os.fdopen(receiving, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        log.seek(0)
        output = log.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGALRM:
        return Reading("HANG", output=output)
    if code != 0 or not answer:
        return Reading(f"CRASH {code}", output=output)
    outcome, value = json.loads(answer)
    return Reading(outcome, value, output)


def _limited(read: Callable[[Path], Any], path: Path, limit_s: int, names: tuple[str, ...]) -> tuple[str, Any]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, used + LIMIT_BYTES))
    signal.alarm(limit_s)
    try:
        return "read", read(path)
    except InputError as error:
        os.write(2, str(error).encode(errors="replace"))
        return "refused" if any(name in str(error) for name in names) else "REFUSED WITHOUT THE FILE'S NAME", None
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
        return "TRACEBACK", None
