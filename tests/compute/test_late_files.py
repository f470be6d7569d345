import time
from pathlib import Path

import pytest

from clep.compute import late_files, wait_for_files


def test_a_file_that_shows_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def hidden() -> list[str]:
        looks.append(time.monotonic())
        return ["a"] if len(looks) < 3 else []

    monkeypatch.setattr(late_files.time, "sleep", lambda seconds: None)
    assert wait_for_files(hidden, tmp_path) == []
    assert len(looks) == 3


def test_the_names_of_files_that_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_files, "LATE_S", 0.01)
    assert wait_for_files(lambda: ["a", "b"], tmp_path) == ["a", "b"]
    assert wait_for_files(lambda: [], tmp_path / "none") == []
