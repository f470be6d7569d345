"""Call a function in a copy of this process, so that a crash or a hang of a library fails one test only."""

import multiprocessing
from collections.abc import Callable
from typing import Any


def in_child(function: Callable[..., Any], *arguments: Any, limit_s: float = 240) -> Any:
    """Return what `function(*arguments)` returns in a forked process.

    Raises:
        AssertionError: it raised (the traceback is on stderr), crashed, or took longer than `limit_s`.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=lambda: theirs.send(function(*arguments)))
    child.start()
    theirs.close()  # so that `ours` ends when the child does
    try:
        assert ours.poll(limit_s), f"{function.__name__} took longer than {limit_s} s"
        result = ours.recv()
    except EOFError:
        child.join()
        raise AssertionError(f"{function.__name__} ended with exit status {child.exitcode}") from None
    finally:
        child.kill()
        child.join()
    return result
