"""A forkserver that is a copy of the test process: a new one imports PyTorch and `clep` again, 13 s of CPU time."""

import multiprocessing.forkserver
import os
import random
import socket
import sys
import threading
import traceback
from multiprocessing import connection, resource_tracker
from multiprocessing.forkserver import ForkServer
from typing import NoReturn

import numpy as np
import torch


class CopyOfThisProcess(ForkServer):
    """Forkserver that is forked from the process that first needs it, with all that it has imported.

    Not once CUDA is in use, which does not outlive a fork: then the server is Python's own.
    """

    def ensure_running(self) -> None:
        """Fork the server, unless it runs already."""
        if torch.cuda.is_initialized():
            super().ensure_running()
            return
        with self._lock:
            if self._forkserver_pid is not None:
                return
            resource_tracker.ensure_running()
            alive_r, alive_w = os.pipe()  # the server ends when nobody holds the write end any more
            with socket.socket(socket.AF_UNIX) as listener:
                address = connection.arbitrary_address("AF_UNIX")
                listener.bind(address)
                listener.listen()
                pid = os.fork()
                if pid == 0:
                    os.close(alive_w)
                    self._lock = threading.Lock()
                    _serve(listener.detach(), alive_r)
            os.close(alive_r)
            self._forkserver_address, self._forkserver_alive_fd, self._forkserver_pid = address, alive_w, pid


def _serve(listener_fd: int, alive_r: int) -> NoReturn:
    try:
        torch.set_num_threads(1)  # threads of OpenMP do not outlive a fork
        torch.default_generator.manual_seed(0)  # not what the first test has left
        np.random.seed(0)  # noqa: NPY002 - as above
        random.seed(0)
        # What the test's buffers hold is not written twice.
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
        multiprocessing.forkserver.main(listener_fd, alive_r, [])
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)


def install() -> None:
    """Let processes of the start method "forkserver" be copies of a copy of this process."""
    server = CopyOfThisProcess()
    for name in ("ensure_running", "get_inherited_fds", "connect_to_new_process", "set_forkserver_preload"):
        setattr(multiprocessing.forkserver, name, getattr(server, name))
    multiprocessing.forkserver._forkserver = server
