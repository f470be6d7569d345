"""Call a function in a copy of this process, so that a crash or a hang of a library fails one test only."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch


def in_child(function: Callable[..., Any], *arguments: Any, limit_s: float = 240) -> Any:
    """Return what `function(*arguments)` returns in a forked process.

    Raises:
        AssertionError: it raised (the traceback is on stderr), crashed, or took longer than `limit_s`.
    """

    def send() -> None:
        torch.set_num_threads(1)  # threads of OpenMP do not outlive a fork
        theirs.send(function(*arguments))

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=send)
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
