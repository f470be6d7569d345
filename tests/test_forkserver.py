import math
import multiprocessing
import os
import sys
import time
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest

from tests import forkserver


def answer(queue: "SimpleQueue[tuple[int, int, bool]]") -> None:
    queue.put((os.getpid(), os.getppid(), "torch" in sys.modules))


def test_processes_come_from_one_copy_of_this_process() -> None:
    context = multiprocessing.get_context("forkserver")
    found = []
    for _ in range(2):
        queue = context.SimpleQueue()
        process = context.Process(target=answer, args=(queue,))
        start = time.process_time()
        process.start()
        found.append(queue.get())
        process.join(60)
        assert process.exitcode == 0
        assert time.process_time() - start < 2
    (first, server, loaded), (second, same_server, _) = found
    assert server == same_server
    assert len({first, second, server, os.getpid()}) == 4
    assert loaded


def answer_rank(queue: "SimpleQueue[str | None]") -> None:
    queue.put(os.environ.get("RANK"))


def test_the_server_does_not_keep_the_variables_of_the_test_that_needs_it_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "7")
    context = multiprocessing.get_context("forkserver")
    queue = context.SimpleQueue()
    process = context.Process(target=answer_rank, args=(queue,))
    process.start()
    assert queue.get() is None
    process.join(60)


def test_exit_statuses_come_back() -> None:
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=sys.exit, args=(3,)), context.Process(target=time.sleep, args=(math.inf,))]
    for process in processes:
        process.start()
    processes[1].kill()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [3, -9]


def serve_and_end(address: Path) -> None:
    """Start another server in a process that ends, and write the server's id."""
    forkserver.install()
    context = multiprocessing.get_context("forkserver")
    queue = context.SimpleQueue()
    context.Process(target=answer, args=(queue,)).start()
    address.write_text(str(queue.get()[1]))


def test_the_server_ends_with_its_process(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=serve_and_end, args=(tmp_path / "server",))
    process.start()
    process.join(60)
    server = Path("/proc") / (tmp_path / "server").read_text()
    until = time.monotonic() + 20
    while server.exists() and "Z" not in (server / "stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.01)
