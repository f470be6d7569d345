"""The evaluation command on a saved model and a small evaluation set; on a whole run see test_train.py."""

import sys
from pathlib import Path

import pytest

from clep.errors import InputError
from clep.evaluate import compose_like_the_run, evaluate, main, run_folder
from clep.evaluation import KineticsZeroShot
from clep.files import read_json
from tests.evaluation.tiny_clips import WORDS, model_for, write_kinetics


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model_for().save_pretrained(tmp_path / "run" / "model")
    write_kinetics(tmp_path / "data" / "clep" / "kinetics")
    return tmp_path / "run"


def test_a_saved_model_is_measured_on_the_folder_that_is_named(saved: Path, tmp_path: Path) -> None:
    """The sentence encoder, and with it the name of the file of prompts, comes from the model."""
    found = evaluate(saved / "model", ["evaluator=kinetics", f"paths.data={tmp_path / 'data'}"], device="cpu")
    expected = KineticsZeroShot(tmp_path / "data" / "clep" / "kinetics", WORDS).run(model_for())
    assert found == expected
    assert read_json(saved / "model" / "evaluate" / "metrics.json") == expected
    assert read_json(saved / "model" / "evaluate" / "coverage.json")["kinetics"]["clips with features"] == 34


@pytest.mark.parametrize("evaluator", ["kinetics", "[kinetics]"])
def test_the_command_line_prints_a_table(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], evaluator: str
) -> None:
    main([f"ckpt={saved}", f"evaluator={evaluator}", f"paths.data={tmp_path / 'data'}", f"out={tmp_path / 'out'}"])
    assert "zeroshot/kinetics/top1" in capsys.readouterr().out
    assert set(read_json(tmp_path / "out" / "metrics.json")) == {"zeroshot/kinetics/top1", "zeroshot/kinetics/top5"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluator=kinetics"], "ckpt=PATH is needed"),
        (["ckpt"], "'ckpt' is not key=value. Did you mean 'ckpt'"),
        (["ckpt={run}", "evaluator=kinetic"], "evaluator=kinetic is unknown. Did you mean 'kinetics'"),
        (["ckpt={run}", "evaluator=[kinetics,charades]"], "evaluator=charades is unknown"),
        (["ckpt={run}/none"], "is not a trained model"),
        (["ckpt={run}", "evaluator=kinetics", "data.batchsize=3"], "there is no setting data.batchsize"),
        (
            ["ckpt={run}", "evaluator=kinetics", "evaluator.kinetics.batch_size=big"],
            "evaluator.kinetics.batch_size='big'",
        ),
        (
            ["ckpt={run}", "evaluator=kinetics", "paths.data={run}/nowhere"],
            "nowhere/clep/kinetics/clips.h5 does not exist",
        ),
    ],
)
def test_wrong_input_gives_one_line_without_a_traceback(
    saved: Path, caplog: pytest.LogCaptureFixture, words: list[str], message: str
) -> None:
    assert main([word.format(run=saved) for word in words]) == 1
    assert message in caplog.text


def test_help_lists_the_evaluators(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["clep.evaluate"])
    for arguments in (["--help"], [], None):
        main(arguments)
        shown = capsys.readouterr().out
        assert "ckpt=PATH" in shown
        assert all(name in shown for name in ("kinetics", "ego_charades", "retrieval", "all"))


@pytest.mark.parametrize("inside", ["", "model", "checkpoints", "checkpoints/best.ckpt"])
def test_the_run_of_a_checkpoint_is_found(tmp_path: Path, inside: str) -> None:
    run = tmp_path / "run"
    for folder in (".hydra", "model", "checkpoints"):
        (run / folder).mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").write_bytes(b"")
    assert run_folder(run / inside).resolve() == run
    (run / ".hydra").rmdir()
    assert run_folder(run / "checkpoints" / "best.ckpt") == run / "checkpoints"


def test_the_settings_of_the_run_are_used_and_can_be_overridden(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    before = [
        "experiment=ego4d_tutorial",
        "data.batch_size=7",
        "+trainer.enable_checkpointing=true",
        "text_encoder=old",
        "evaluator.kinetics.batch_size=9",
    ]
    (tmp_path / ".hydra" / "overrides.yaml").write_text("".join(f"- {line}\n" for line in before))
    same = compose_like_the_run(tmp_path, [], None)
    assert (same.name, same.data.batch_size, same.text_encoder) == ("ego4d_tutorial", 7, "old")
    assert same.evaluator.kinetics.batch_size == 9
    assert same.paths.run == str(tmp_path)
    other = compose_like_the_run(tmp_path, ["data.batch_size=8", "evaluator=retrieval", "seed=3"], "org/model")
    assert (other.data.batch_size, other.seed, other.text_encoder) == (8, 3, "org/model")
    assert list(other.evaluator) == ["retrieval"]
    other = compose_like_the_run(tmp_path, ["text_encoder=mine"], "org/model")
    assert other.text_encoder == "mine"


def test_a_setting_of_the_run_that_no_longer_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- data.batch_sizes=7\n")
    with pytest.raises(InputError, match=r"there is no setting data\.batch_sizes\. Did you mean data\.batch_size="):
        compose_like_the_run(tmp_path, [], None)
