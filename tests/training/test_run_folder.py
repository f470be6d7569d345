import os
from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.training.run_folder import find_checkpoint, read_checkpoint


def left_by(run: Path, at: float) -> Path:
    path = run / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"at": at}, path)
    os.utime(path, (at, at))
    return path


def test_none_is_none(tmp_path: Path) -> None:
    assert find_checkpoint(None, tmp_path) is None


def test_last_is_the_newest_of_the_experiment(tmp_path: Path) -> None:
    runs = tmp_path / "demo"
    left_by(runs / "c", 100.0)
    newest = left_by(runs / "a", 300.0)
    left_by(runs / "b", 200.0)
    left_by(tmp_path / "another" / "d", 900.0)
    assert find_checkpoint("last", runs) == str(newest)


def test_a_run_or_a_file_can_be_named(tmp_path: Path) -> None:
    path = left_by(tmp_path / "a", 1.0)
    assert find_checkpoint(str(tmp_path / "a"), tmp_path) == find_checkpoint(str(path), tmp_path) == str(path)


@pytest.mark.parametrize("choice", ["last", "{}/none", "{}/none.ckpt", "{}"])
def test_what_is_not_there_is_said_with_its_place(tmp_path: Path, choice: str) -> None:
    with pytest.raises(InputError, match=f"ckpt_path=.*{tmp_path}"):
        find_checkpoint(choice.format(tmp_path), tmp_path)


def test_plain_data_is_read(tmp_path: Path) -> None:
    assert read_checkpoint(left_by(tmp_path, 5.0)) == {"at": 5.0}
    with pytest.raises(InputError, match=r"none\.ckpt does not exist"):
        read_checkpoint(tmp_path / "none.ckpt")
