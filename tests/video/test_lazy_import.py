import subprocess
import sys
from pathlib import Path

import pytest

import clep.video
from clep.errors import InputError


def test_importing_the_folder_needs_no_pyav() -> None:
    code = "import sys; sys.modules['av'] = None; import clep.video, clep.video.encode; clep.video.DenseWindows()"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'clep\[video\]'"):
        clep.video.VideoReader(tmp_path / "v.mp4", 8)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(clep.video, name) for name in clep.video.__all__)
    with pytest.raises(AttributeError):
        _ = clep.video.nothing
