import os
import signal
import time

import pytest
import torch

from tests.in_child import in_child


def test_the_result_comes_back() -> None:
    assert in_child(divmod, 7, 2) == (3, 1)
    assert in_child(os.getpid) != os.getpid()


def test_an_exception_a_crash_and_a_hang_fail() -> None:
    with pytest.raises(AssertionError, match="exit status 1"):
        in_child(divmod, 7, 0)
    with pytest.raises(AssertionError, match="exit status -9"):
        in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(AssertionError, match=r"sleep took longer than 0\.1 s"):
        in_child(time.sleep, 60, limit_s=0.1)


def test_tensors_work_after_threads_did_in_this_process() -> None:
    """A copy lacks the threads of OpenMP and would wait for them for ever."""
    torch.set_num_threads(2)
    total = torch.ones(1_000_000).sum().item()
    assert in_child(lambda: torch.ones(1_000_000).sum().item(), limit_s=30) == total
