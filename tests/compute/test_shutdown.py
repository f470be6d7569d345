import os
import signal
import threading
from collections.abc import Iterator

import pytest

from clep.compute.shutdown import TIME_LIMIT_SIGNAL, Stopped, graceful_shutdown


@pytest.fixture(autouse=True)
def _usual_handlers() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_once_and_lets_it_clean_up(number: signal.Signals) -> None:
    tidied = False
    with pytest.raises(Stopped) as ended, graceful_shutdown():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # what a closed terminal or systemd sends next
            os.kill(os.getpid(), signal.SIGHUP)
            tidied = True
    assert tidied
    assert (ended.value.signal, ended.value.code, ended.value.at_time_limit) == (number, 128 + number, False)
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    assert Stopped(TIME_LIMIT_SIGNAL).at_time_limit


def test_existing_handlers_are_kept() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with graceful_shutdown():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_no_effect_outside_the_main_thread() -> None:
    def block() -> None:
        with graceful_shutdown():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
