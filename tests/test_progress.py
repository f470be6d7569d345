import time

import pytest

from clep.progress import progress_bar


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


def test_a_bar_shows_description_count_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("index: moments", 20, noun="moments") as advance:
        advance(8)
        advance(12)
    shown = capsys.readouterr().err
    assert "index: moments" in shown
    assert "20/20" in shown
    assert "moments/s" in shown


def test_short_work_shows_no_bar_where_one_waits(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Retrieval", 2, after_s=60.0) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
    with progress_bar("Retrieval", 2, after_s=0.01) as advance:
        time.sleep(0.02)
        advance(1)
    assert "Retrieval" in capsys.readouterr().err


def test_no_bar_without_a_terminal_or_where_none_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_bar("work", 2, shown=False) as advance:
        advance(2)
    monkeypatch.setenv("FORCE_COLOR", "")
    with progress_bar("work", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""


def test_an_error_in_the_work_removes_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), progress_bar("work", 2):
        raise ValueError("broken")
    assert capsys.readouterr().err.endswith("\x1b[2K")  # the line is erased
