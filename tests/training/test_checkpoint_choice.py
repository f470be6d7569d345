import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from clep.errors import InputError
from clep.models import read_checkpoint
from clep.training.checkpoint import checked_monitors, find_checkpoint


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


def test_further_devices_continue_what_the_first_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEP_CONTINUES", "")
    found = left_by(tmp_path / "a", 100.0)
    assert find_checkpoint("last", tmp_path) == str(found)
    left_by(tmp_path / "sweep-1" / "0", 200.0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_checkpoint("last", tmp_path) == str(found)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert "sweep-1" in str(find_checkpoint("last", tmp_path))


def test_a_monitor_that_nothing_measures_is_refused(tmp_path: Path) -> None:
    callbacks = [pl.callbacks.ModelCheckpoint(tmp_path, monitor="val/retrieval/t2v/r1"), pl.Callback()]
    checked_monitors(callbacks, {"val/retrieval/t2v/r1": 3.0})
    with pytest.raises(InputError, match=r"waits for 'val/retrieval/t2v/r1'.*callbacks=last final_weights=last"):
        checked_monitors(callbacks, {"zeroshot/kinetics/top1": 3.0})
