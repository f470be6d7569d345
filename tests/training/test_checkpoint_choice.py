import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from clep.errors import InputError
from clep.metrics.history import write_history
from clep.models import read_checkpoint
from clep.training.checkpoint import check_unfinished, checked_monitors, find_checkpoint, remove_leftovers
from clep.training.run_folder import locked_run_folder


def left_by(run: Path, at: float) -> Path:
    path = run / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"at": at}, path)
    os.utime(path, (at, at))
    return path


@pytest.fixture(autouse=True)
def _first_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("CLEP_CONTINUES", "")
    monkeypatch.setenv("CLEP_TRAINING", "")


def test_without_a_choice_nothing_is_resumed(tmp_path: Path) -> None:
    assert find_checkpoint(None, tmp_path) is None


def test_last_is_the_newest_of_the_experiment(tmp_path: Path) -> None:
    runs = tmp_path / "demo"
    left_by(runs / "c", 100.0)
    newest = left_by(runs / "a", 300.0)
    left_by(runs / "b", 200.0)
    left_by(tmp_path / "another" / "d", 900.0)
    assert find_checkpoint("last", runs) == str(newest)


def test_a_run_folder_or_a_checkpoint_file_can_be_given(tmp_path: Path) -> None:
    path = left_by(tmp_path / "a", 1.0)
    assert find_checkpoint(str(tmp_path / "a"), tmp_path) == find_checkpoint(str(path), tmp_path) == str(path)


@pytest.mark.parametrize("choice", ["last", "{}/none", "{}/none.ckpt", "{}"])
def test_a_missing_checkpoint_is_refused_with_its_path(tmp_path: Path, choice: str) -> None:
    with pytest.raises(InputError, match=f"ckpt_path=.*{tmp_path}"):
        find_checkpoint(choice.format(tmp_path), tmp_path)


def test_plain_data_is_read(tmp_path: Path) -> None:
    assert read_checkpoint(left_by(tmp_path, 5.0)) == {"at": 5.0}
    with pytest.raises(InputError, match=r"none\.ckpt does not exist"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_further_devices_use_the_checkpoint_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEP_CONTINUES", "")
    found = left_by(tmp_path / "a", 100.0)
    assert find_checkpoint("last", tmp_path) == str(found)
    left_by(tmp_path / "sweep-1" / "0", 200.0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_checkpoint("last", tmp_path) == str(found)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert "sweep-1" in str(find_checkpoint("last", tmp_path))


def test_the_newest_readable_checkpoint_is_used_and_damaged_ones_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, torn, newest = left_by(tmp_path / "a", 100.0), left_by(tmp_path / "b", 200.0), left_by(tmp_path / "c", 300.0)
    for path, content in ((torn, torn.read_bytes()[:-100]), (newest, b"")):
        at = path.stat().st_mtime
        path.write_bytes(content)
        os.utime(path, (at, at))
    with caplog.at_level("INFO"):
        assert find_checkpoint("last", tmp_path) == str(whole)
    skipped = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert [str(newest) in skipped[0], str(torn) in skipped[1]] == [True, True]
    assert f"continuing from {whole}" in caplog.text
    whole.write_bytes(b"")
    with pytest.raises(InputError, match=r"ckpt_path=last: no checkpoint can be read.*leave ckpt_path out"):
        find_checkpoint("last", tmp_path)


def test_a_run_whose_last_checkpoint_is_broken_continues_from_another_of_its_own(tmp_path: Path) -> None:
    last = left_by(tmp_path / "a", 300.0)
    best = last.with_name("best.ckpt")
    torch.save({}, best)
    left_by(tmp_path / "b", 200.0)
    os.utime(best, (250.0, 250.0))
    assert find_checkpoint("last", tmp_path) == str(last)
    last.write_bytes(b"")
    assert find_checkpoint("last", tmp_path) == find_checkpoint(str(tmp_path / "a"), tmp_path) == str(best)
    with pytest.raises(InputError, match=r"ckpt_path=.*last.ckpt: no checkpoint can be read"):
        find_checkpoint(str(last), tmp_path)


def test_an_interrupted_run_continues_from_its_own_checkpoint(tmp_path: Path) -> None:
    own = left_by(tmp_path / "own", 100.0)
    other = left_by(tmp_path / "other", 300.0)
    earlier = own.with_name("best.ckpt")
    torch.save({}, earlier)
    for choice in (None, "last", str(other), str(tmp_path / "other")):
        assert find_checkpoint(choice, tmp_path, tmp_path / "own") == str(own)
    assert find_checkpoint(str(earlier), tmp_path, tmp_path / "own") == str(earlier)
    assert find_checkpoint(None, tmp_path, tmp_path / "new") is None


def test_temporary_files_of_killed_runs_are_removed_and_those_of_live_runs_kept(tmp_path: Path) -> None:
    names = [f".last.ckpt.{'0123abcd' * 3}.tmp.ckpt", f".best.ckpt.{'89abcdef' * 3}.tmp.ckpt"]
    left = [
        left_by(tmp_path / run, 1.0).with_name(name)
        for run, name in zip(("own", "dead", "alive", "sweep-1/0"), names * 2, strict=True)
    ]
    (tmp_path / "dead" / "model").mkdir()
    left.append(tmp_path / "dead" / "model" / f".model.safetensors.{'0123abcd' * 3}.tmp.safetensors")
    kept = tmp_path / "dead" / ".hidden.tmp"
    for path in (*left, kept):
        path.touch()
    with locked_run_folder(tmp_path / "own"), locked_run_folder(tmp_path / "alive"):
        remove_leftovers(tmp_path, tmp_path / "own")
    assert [path.exists() for path in left] == [False, False, True, False, False]
    assert kept.exists()
    assert all((tmp_path / run / "checkpoints" / "last.ckpt").exists() for run in ("own", "dead", "alive"))


def test_a_monitor_that_nothing_measures_is_refused(tmp_path: Path) -> None:
    callbacks = [pl.callbacks.ModelCheckpoint(tmp_path, monitor="val/retrieval/t2v/r1"), pl.Callback()]
    checked_monitors(callbacks, {"val/retrieval/t2v/r1": 3.0})
    with pytest.raises(InputError, match=r"monitors 'val/retrieval/t2v/r1'.*callbacks=last final_weights=last"):
        checked_monitors(callbacks, {"zeroshot/kinetics/top1": 3.0})


def finished(run: Path, trainer: str, epochs: int, steps: int) -> str:
    """Leave what a run leaves that ended after so many epochs and steps."""
    (run / "config.yaml").parent.mkdir(parents=True)
    (run / "config.yaml").write_text(f"trainer: {{{trainer}}}\n")
    (run / "metrics.json").write_text("{}")
    write_history(run / "history.json", [{"epoch": epochs, "step": steps}])
    return str(left_by(run, 1.0))


@pytest.mark.parametrize(
    ("before", "now", "limit"),
    [
        ("max_epochs: 3, max_steps: -1", {"max_epochs": 3, "max_steps": -1}, "trainer.max_epochs above 3"),
        ("max_epochs: 3, max_steps: -1", {"max_epochs": 2, "max_steps": -1}, "trainer.max_epochs above 3"),
        ("max_epochs: 3, max_steps: -1", {"max_epochs": 4, "max_steps": -1}, None),
        ("max_epochs: 3, max_steps: -1", {"max_epochs": -1, "max_steps": -1}, None),
        ("max_epochs: 3, max_steps: -1", {"max_epochs": 4, "max_steps": 30}, "trainer.max_steps above 30"),
        ("max_epochs: -1, max_steps: 30", {"max_epochs": -1, "max_steps": 30}, "trainer.max_steps above 30"),
        ("max_epochs: -1, max_steps: 30", {"max_epochs": -1, "max_steps": 31}, None),
        ("max_epochs: 3, max_steps: 30", {"max_epochs": 3, "max_steps": -1}, None),  # ended within its third epoch
        ("max_epochs: 9, max_steps: -1, max_time: '00:01'", {"max_epochs": 3, "max_steps": -1}, None),
        ("max_epochs: null, max_steps: -1", {"max_epochs": None, "max_steps": -1}, None),
    ],
)
def test_a_finished_run_is_continued_only_for_further_steps(
    tmp_path: Path, before: str, now: dict[str, int], limit: str | None
) -> None:
    checkpoint = finished(tmp_path / "a", before, epochs=3, steps=30)
    if limit is None:
        check_unfinished(checkpoint, "last", now)
        return
    with pytest.raises(InputError, match=f"ckpt_path=last: .*a is finished.*{limit}.*without ckpt_path a new run"):
        check_unfinished(checkpoint, "last", now)
    with pytest.raises(InputError, match="ckpt_path=null: .*another CLEP_RUN_ID starts a new run"):
        check_unfinished(checkpoint, None, now)
    check_unfinished(checkpoint, checkpoint, now)  # a file that was named is measured again


def test_an_interrupted_run_and_one_of_unknown_length_are_continued(tmp_path: Path) -> None:
    now = {"max_epochs": 3, "max_steps": -1}
    for name, gone in (("a", "metrics.json"), ("b", "history.json"), ("c", "config.yaml")):
        checkpoint = finished(tmp_path / name, "max_epochs: 3, max_steps: -1", epochs=3, steps=30)
        (tmp_path / name / gone).unlink()
        check_unfinished(checkpoint, "last", now)
    check_unfinished(None, "last", now)
