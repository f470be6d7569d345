import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from clep.errors import InputError
from clep.training import AtomicCheckpointIO, Checkpoint
from clep.training.checkpoint import best_checkpoint
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


def best_in(folder: Path) -> Checkpoint:
    """The learning rate falls after its warm-up, so that by it the first epoch is the best."""
    return Checkpoint(dirpath=folder, filename="best", monitor="train/lr", mode="max", enable_version_counter=False)


def last_in(folder: Path) -> Checkpoint:
    return Checkpoint(dirpath=folder, filename="last", enable_version_counter=False)


def fit(folder: Path, **options: Any) -> list[Checkpoint]:
    callbacks = [best_in(folder), last_in(folder)]
    ckpt_path = options.pop("ckpt_path", None)
    trainer = tiny_trainer(folder, callbacks=callbacks, plugins=[AtomicCheckpointIO()], **options)
    trainer.fit(tiny_module(), datamodule=tiny_data(folder.parent / "files"), ckpt_path=ckpt_path, weights_only=True)
    return callbacks


def step(path: str | Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def test_last_is_written_after_each_validation(tmp_path: Path) -> None:
    best, last = fit(tmp_path / "a")
    assert 3 * step(best.best_model_path) == step(last.best_model_path) > 0
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.filterwarnings("error:.*dirpath has changed.*")
def test_a_run_resumed_in_another_folder_keeps_the_best_score(tmp_path: Path) -> None:
    before, _ = fit(tmp_path / "a")
    best, last = fit(tmp_path / "b", max_epochs=5, ckpt_path=tmp_path / "a" / "last.ckpt")
    assert best.best_model_path == before.best_model_path
    assert float(best.best_model_score) == float(before.best_model_score)
    assert step(last.best_model_path) == 5 * step(before.best_model_path)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"last.ckpt"}


@pytest.mark.parametrize("original", ["moved", "copied, then trained further"])
def test_a_run_that_was_moved_keeps_the_best_score(tmp_path: Path, original: str) -> None:
    """Its state names files by the paths of before."""
    before, _ = fit(tmp_path / "a")
    per_epoch, score = step(before.best_model_path), float(before.best_model_score)
    if original == "moved":
        (tmp_path / "a").rename(tmp_path / "b")
    else:
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        shutil.copy(tmp_path / "a" / "last.ckpt", tmp_path / "a" / "best.ckpt")
    best, last = fit(tmp_path / "b", max_epochs=5, ckpt_path=tmp_path / "b" / "last.ckpt")
    assert Path(best.best_model_path) == tmp_path / "b" / "best.ckpt"
    assert step(best.best_model_path) == per_epoch
    assert float(best.best_model_score) == score
    assert best.best_k_models == {str(tmp_path / "b" / "best.ckpt"): best.best_model_score}
    assert step(last.best_model_path) == 5 * per_epoch


def test_a_missing_best_checkpoint_is_ignored(tmp_path: Path) -> None:
    before, _ = fit(tmp_path / "a")
    per_epoch = step(before.best_model_path)
    (tmp_path / "a" / "best.ckpt").unlink()
    best, _ = fit(tmp_path / "b", max_epochs=5, ckpt_path=tmp_path / "a" / "last.ckpt")
    assert Path(best.best_model_path) == tmp_path / "b" / "best.ckpt"
    assert step(best.best_model_path) == 4 * per_epoch


def test_a_damaged_best_checkpoint_is_ignored(tmp_path: Path) -> None:
    before, _ = fit(tmp_path / "a")
    path = Path(before.best_model_path)
    path.write_bytes(path.read_bytes()[:-1])
    best, _ = fit(tmp_path / "b", max_epochs=5, ckpt_path=tmp_path / "a" / "last.ckpt")
    assert Path(best.best_model_path) == tmp_path / "b" / "best.ckpt"


def test_with_a_damaged_best_checkpoint_the_last_weights_are_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = best_in(tmp_path / "a")
    trainer = tiny_trainer(tmp_path, callbacks=[callback], max_epochs=1)
    trainer.fit(tiny_module(), datamodule=tiny_data(tmp_path / "files"))
    assert best_checkpoint(trainer) == str(tmp_path / "a" / "best.ckpt")
    (tmp_path / "a" / "best.ckpt").write_bytes(b"")
    assert best_checkpoint(trainer) is None
    assert "best.ckpt cannot be read" in caplog.text
    assert "last weights" in caplog.text


def test_a_failed_write_keeps_the_previous_checkpoint_and_uses_no_other_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, writer = tmp_path / "run" / "last.ckpt", AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1}, path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    writer.save_checkpoint({"step": 2}, path)
    for reason in (OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")):

        def fails(value: object, file: Path, reason: Exception = reason) -> None:
            file.write_bytes(b"half")
            raise reason

        monkeypatch.setattr(torch, "save", fails)
        with pytest.raises(InputError, match=rf"cannot write {path}.*free some space"):
            writer.save_checkpoint({"step": 3}, path)
    assert writer.load_checkpoint(path) == {"step": 2}
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]


def killed_while_writing(path: Path, large: torch.Tensor, at: int) -> None:
    """Write a checkpoint in a process that dies at a given call of the system on the way."""
    calls = iter(range(10_000))

    def dies(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename") and str(path.parent) in str(arguments[0]) and next(calls) == at:
            os._exit(9)

    sys.addaudithook(dies)
    AtomicCheckpointIO().save_checkpoint({"state": large}, path)


def test_a_kill_at_any_file_operation_leaves_the_old_or_the_new_checkpoint(tmp_path: Path) -> None:
    path, states = tmp_path / "last.ckpt", [torch.full((1000,), float(number)) for number in range(2)]
    context, ended = multiprocessing.get_context("fork"), []
    for at in range(8):
        AtomicCheckpointIO().save_checkpoint({"state": states[0]}, path)
        process = context.Process(target=killed_while_writing, args=(path, states[1], at))
        process.start()
        process.join()
        ended.append(process.exitcode)
        found = AtomicCheckpointIO().load_checkpoint(path)["state"]
        assert any(torch.equal(found, state) for state in states)
        assert torch.equal(found, states[1]) or process.exitcode == 9
    assert ended[0] == 9
    assert ended[-1] == 0
