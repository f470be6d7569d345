"""Program of a worker process: run the tasks that its parent sends, one after another."""

import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from clep.compute.attempts import LOG_FORMAT, Outcome, attempt, call_pickled, write_output_to
from clep.compute.shutdown import GRACE_S, TIME_LIMIT_SIGNAL, Stopped, raise_stopped


def main(descriptor: int) -> None:
    """Run the tasks that arrive on a pipe and answer each with its `Outcome`.

    Args:
        descriptor: the inherited file descriptor of the pipe. A message is (log file, pickled function and payload), or
            None when there are no more tasks.
    """
    os.set_inheritable(descriptor, False)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    signal.signal(signal.SIGTERM, raise_stopped)
    signal.signal(TIME_LIMIT_SIGNAL, raise_stopped)
    pipe = Connection(descriptor)
    messages: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, messages), daemon=True).start()
    while (message := messages.get()) is not None:
        log, pickled = message
        write_output_to(Path(log))
        pipe.send(_attempt(pickled))


def _attempt(pickled: bytes) -> Outcome:
    try:
        outcome = attempt(call_pickled, pickled)
        if outcome.final:
            logging.error("%s", outcome.reason)
        return outcome
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _receive(pipe: Connection, messages: "queue.SimpleQueue[tuple[str, bytes] | None]") -> None:
    """Queue the messages of the pipe. If it ends without None, the parent has died, and this process ends too."""
    try:
        while (message := pipe.recv()) is not None:
            messages.put(message)
        messages.put(None)
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)  # the main thread removes partial files and ends
        time.sleep(GRACE_S)
        os.killpg(0, signal.SIGKILL)  # the process group: this process and its children


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except Stopped:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)  # processes that a task has started
        os._exit(128 + signal.SIGTERM)
