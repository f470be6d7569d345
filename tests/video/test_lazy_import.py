import sys
from pathlib import Path

import pytest

import clep.video
from clep.errors import InputError


def test_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decodes nothing works without PyAV; that importing the folder does not load it is tested in test_layers."""
    monkeypatch.setitem(sys.modules, "av", None)
    assert clep.video.DenseWindows() == clep.video.DenseWindows()
    with pytest.raises(InputError, match=r"pip install 'clep\[video\]'"):
        clep.video.VideoReader(tmp_path / "v.mp4", 8)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(clep.video, name) for name in clep.video.__all__)
    with pytest.raises(AttributeError):
        _ = clep.video.nothing
