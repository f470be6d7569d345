import threading

import pytest
import torch

from clep.demo.encoding_threads import map_videos


def test_results_come_in_order_from_threads_that_work_alone():
    torch.set_num_threads(2)
    seen = list(map_videos(lambda n: (n, torch.get_num_threads(), threading.current_thread().name), range(50)))
    assert [n for n, _, _ in seen] == list(range(50))
    assert {threads for _, threads, _ in seen} == {1}
    assert threading.main_thread().name not in {name for _, _, name in seen}
    assert torch.get_num_threads() == 2


def test_an_exception_ends_the_work_and_settings_return():
    torch.set_num_threads(2)

    def fail(n):
        if n == 3:
            raise KeyError("three")
        return n

    with pytest.raises(KeyError, match="three"):
        list(map_videos(fail, range(1000)))
    assert torch.get_num_threads() == 2
