"""Every experiment composes, is checked, and its parts can be built; the published recipe is the published one."""

import math
import sys
from itertools import product
from pathlib import Path
from typing import Any

import omegaconf.base
import pytest
import pytorch_lightning as pl
import torch
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from clep.bank import Clock
from clep.config.build import build_typed
from clep.config.check import check_call, check_config
from clep.config.compose import compose_config
from clep.config.folder import config_folder
from clep.config.targets import ANYTHING
from clep.data import LabelledVideoDataModule, LongTerm, MomentDataModule, RegionDataModule
from clep.data.video_clips import UNREADABLE
from clep.errors import InputError
from clep.evaluation import AvaRegions, Evaluator, VideoAccuracy
from clep.losses import DiagonalPositives, TextIdPositives
from clep.models import DualEncoder, FBOAvg, FBOMax, FBONone, FBONonLocal, LongTermTower
from clep.preprocess.job import build_job
from clep.train import main, train
from clep.training import ContrastiveModule
from clep.training.settings import fill_in_dims, run_settings
from tests.composing import compose_train, remembered

EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))
OTHER_TASKS = {"ava_lfb", "demo_ava", "finetune_video"}
CONTRASTIVE = [name for name in EXPERIMENTS if name not in OTHER_TASKS]


def composed(tmp_path: Path, *overrides: str) -> DictConfig:
    paths = [f"paths.data={tmp_path / 'data'}", f"paths.runs={tmp_path / 'runs'}", f"paths.run={tmp_path / 'run'}"]
    return compose_train(*paths, *overrides)


def plain(cfg: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def check(values: dict[str, Any]) -> None:
    check_call(run_settings, values, "")
    check_config(values | {"model": fill_in_dims(values["model"], 1, 1), "operator": None}, targets=ANYTHING)


def test_the_experiments_are_there() -> None:
    assert {"demo", "ego4d_clip", "ego4d_long_term", "ego4d_tutorial"} <= set(EXPERIMENTS)
    for name in EXPERIMENTS:
        lines = (config_folder() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        assert lines[0] == "# @package _global_"
        assert "python train.py" in lines[1]
        assert len(lines) < 40


@pytest.mark.parametrize("experiment", CONTRASTIVE)
def test_every_part_of_an_experiment_can_be_built(tmp_path: Path, experiment: str) -> None:
    cfg = composed(tmp_path, f"experiment={experiment}")
    values = plain(cfg)
    check(values)
    starts_from_pixels = values["model"]["video"]["_target_"].endswith("PixelTower")
    dim = 3 * 72**2 if starts_from_pixels else 1536
    model = DualEncoder.from_config(fill_in_dims(values["model"], dim, 768))
    context = {"context": torch.zeros(2, 3, dim), "context_mask": torch.ones(2, 3, dtype=torch.bool)}
    video = torch.zeros(2, 3, dim) if values["data"]["window"]["pool"] == "rows" else torch.zeros(2, dim)
    text = model.tokenize(["one", "two"]) if model.reads_tokens else {"text": torch.zeros(2, 768)}
    assert model.encode_video({"video": video, **context}).shape == (2, model.video.out_dim)
    assert model.encode_text(text).shape == (2, model.video.out_dim)
    loss = build_typed(cfg.loss)
    assert isinstance(loss, nn.Module)
    optimizer = build_typed(cfg.optim.optimizer)
    assert isinstance(optimizer(model), torch.optim.AdamW)
    schedule = build_typed(cfg.optim.schedule)
    assert 0 < schedule(3, 100) <= 1
    ContrastiveModule(model, loss, optimizer, schedule, positives=build_typed(cfg.positives), form=cfg.form)
    assert isinstance(build_typed(cfg.data), MomentDataModule)
    evaluators = {name: build_typed(evaluator) for name, evaluator in cfg.evaluator.items()}
    assert evaluators
    assert all(isinstance(evaluator, Evaluator) for evaluator in evaluators.values())
    callbacks = [build_typed(callback) for callback in cfg.callbacks.values()]
    assert any(isinstance(callback, pl.callbacks.ModelCheckpoint) for callback in callbacks)
    loggers = [build_typed(logger) for logger in cfg.logger.values()]
    assert [type(logger).__name__ for logger in loggers] == ["TensorBoardLogger"]
    trainer = build_typed(cfg.trainer, callbacks=callbacks, logger=loggers)
    assert trainer.default_root_dir == str(tmp_path / "run")
    assert trainer.num_sanity_val_steps == 0


@pytest.mark.parametrize("experiment", CONTRASTIVE)
def test_every_path_is_below_the_two_that_are_given(tmp_path: Path, experiment: str) -> None:
    values = plain(composed(tmp_path, f"experiment={experiment}"))

    def strings(value: Any) -> list[str]:
        if isinstance(value, dict | list):
            return [text for item in (value.values() if isinstance(value, dict) else value) for text in strings(item)]
        return [value] if isinstance(value, str) else []

    values["callbacks"]["checkpoint"].pop("monitor", None)  # the name of a metric has slashes too
    paths = [text for text in strings(values) if "/" in text and not text.startswith("facebook/")]  # an encoder's name
    assert len(paths) > 15
    assert all(Path(text).is_relative_to(tmp_path) for text in paths), paths


@pytest.mark.parametrize(
    "words",
    [
        [
            "experiment=ego4d_long_term",
            "operator=max",
            "data.context.window_s=30",
            "name='a, b'",
            "+data.new={x: [1, 2]}",
        ],
        ["loss=siglip", "loss._target_=clep.losses.ClipLoss", "~loss.chunk", "paths.run=x", "++seed=3"],
    ],
)
def test_settings_are_composed_in_tests_as_hydra_does(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = compose_train(*words), compose_train(*words)
    monkeypatch.setattr(config_loader_impl, "create_defaults_list", remembered.create_defaults_list)
    monkeypatch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", remembered.compose)
    monkeypatch.setattr(ConfigRepository, "load_config", remembered.load)
    monkeypatch.setattr(CachingConfigRepository, "__init__", remembered.copy_sources)
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", remembered.choices)
    monkeypatch.setattr(omegaconf.base, "parse", remembered.parse)
    assert first == again == compose_config("train", words)


def test_what_is_remembered_of_a_composition_does_not_change() -> None:
    before = compose_train("experiment=ego4d_clip")
    compose_train("experiment=ego4d_clip", "data.batch_size=3", "~logger", "+data.new={x: 1}").seed = 5
    assert compose_train("experiment=ego4d_clip") == before
    with pytest.raises(ConfigCompositionException, match=r"operatr"):
        compose_train("operatr=avg")


def test_a_search_path_of_the_user_leaves_the_jobs_in_place(tmp_path: Path) -> None:
    """`hydra.searchpath=…` replaces the list in conf/train.yaml, which is where Hydra finds the jobs."""
    cfg = composed(tmp_path, f"hydra.searchpath=['file://{tmp_path}']")
    assert {"ego4d_features", "kinetics"} <= set(cfg.prepare)


@pytest.mark.parametrize("experiment", CONTRASTIVE)
def test_the_run_reads_what_the_jobs_write(tmp_path: Path, experiment: str) -> None:
    values = plain(composed(tmp_path, f"experiment={experiment}"))
    jobs = values["prepare"]
    written = {str(path) for job in jobs.values() if job for path in build_job(job).outputs()}
    by_the_user = {"bank"} if experiment == "epic_mir" else set()  # the features of its videos
    for source in values["data"]["sources"].values():
        assert all(source[name] in written for name in {"bank", "narrations", "texts"} - by_the_user)
    if "ego4d_narrations" not in jobs:
        return
    features = jobs.get("ego4d_features") or jobs["ego4d_videos"]
    assert jobs["ego4d_narrations"]["tag_style"] == values["tag_style"]
    for name in {"kinetics", "ego_charades"} & set(values["evaluator"]):
        assert values["evaluator"][name]["folder"] == jobs[name]["output_folder"]
        assert jobs[name]["text_encoder"] == jobs["ego4d_narrations"]["text_encoder"] == values["text_encoder"]
        if "encoder" in features:
            assert jobs[name]["encoder"] == features["encoder"] == values["video_encoder"]
        else:
            assert jobs[name]["extraction"] == features["extraction"]


@pytest.mark.parametrize("encoder", sorted(path.stem for path in (config_folder() / "encoder").glob("*.yaml")))
def test_fine_tuning_takes_any_encoder(tmp_path: Path, encoder: str) -> None:
    cfg = composed(tmp_path, "experiment=finetune_video", f"encoder={encoder}")
    values = plain(cfg)
    check(values)
    assert values["model"]["encoder"] == values["encoder"]
    data, loss = build_typed(cfg.data), build_typed(cfg.loss)
    assert isinstance(data, LabelledVideoDataModule)
    assert isinstance(loss, nn.CrossEntropyLoss)
    assert loss.ignore_index == UNREADABLE
    assert isinstance(build_typed(cfg.evaluator.accuracy), VideoAccuracy)
    measured = {**values["evaluator"]["accuracy"]["source"]}
    assert measured == values["data"]["source"]  # what is held out of the training is what is measured
    assert values["callbacks"]["checkpoint"]["monitor"] == "val/top1"
    assert not values["prepare"]


@pytest.mark.parametrize(
    ("choice", "loggers"),
    [("tensorboard", ["TensorBoardLogger"]), ("csv", ["CurveLogger"]), ("none", []), ("wandb", ["WandbLogger"])],
)
def test_loggers(tmp_path: Path, choice: str, loggers: list[str]) -> None:
    cfg = composed(tmp_path, f"logger={choice}")
    check(plain(cfg))
    assert [logger["_target_"].split(".")[-1] for logger in cfg.logger.values()] == loggers
    if choice != "wandb":
        assert [type(build_typed(logger)).__name__ for logger in cfg.logger.values()] == loggers


@pytest.mark.parametrize("choice", sorted(path.stem for path in (config_folder() / "evaluator").glob("*.yaml")))
def test_every_choice_of_evaluators_fits_the_experiment_on_real_data(tmp_path: Path, choice: str) -> None:
    cfg = composed(tmp_path, "experiment=ego4d_clip", f"evaluator={choice}")
    check(plain(cfg))
    assert all(isinstance(build_typed(evaluator), Evaluator) for evaluator in cfg.evaluator.values())


@pytest.mark.parametrize("choice", sorted(path.stem for path in (config_folder() / "sampler").glob("*.yaml")))
def test_every_sampler_fits_the_experiment_on_real_data(tmp_path: Path, choice: str) -> None:
    cfg = composed(tmp_path, "experiment=ego4d_clip", f"sampler={choice}", "data.verb_noun=taxonomy")
    check(plain(cfg))
    data = build_typed(cfg.data)
    chosen = "shuffled" if data.strategy is None else data.strategy.to_dict()["sampler"]
    assert (chosen, data.verb_noun) == (choice, "taxonomy")
    assert ("hard_negatives" in cfg.callbacks) == (choice == "hard_negatives")
    for callback in cfg.callbacks.values():
        build_typed(callback)


@pytest.mark.parametrize("source", ["egoclip", "epic_kitchens"])
def test_narrations_with_spans_are_read_where_the_job_writes_them(tmp_path: Path, source: str) -> None:
    values = plain(composed(tmp_path, "experiment=ego4d_clip", f"data={source}", f"prepare={source}"))
    check(values)
    read, job = values["data"]["sources"]["ego4d"], values["prepare"][source]
    assert read["span"] == values["data"]["verb_noun"] == "given"
    assert Path(read["narrations"]).parent == Path(read["texts"]).parent == Path(job["output_folder"])
    assert job["text_encoder"] == values["text_encoder"]


@pytest.mark.parametrize("operator", ["nl", "avg", "max", "none"])
def test_a_long_term_run_takes_any_operator(tmp_path: Path, operator: str) -> None:
    cfg = composed(tmp_path, "experiment=ego4d_long_term", f"operator={operator}")
    values = plain(cfg)
    check(values)
    kinds = {"nl": FBONonLocal, "avg": FBOAvg, "max": FBOMax, "none": FBONone}
    model = DualEncoder.from_config(fill_in_dims(values["model"], 1536, 768))
    assert isinstance(model.video, LongTermTower)
    assert type(model.video.operator) is kinds[operator]
    assert model.video.head.in_dim == 1536 + (0 if operator == "none" else 512)
    assert model.text[0].in_features == 768
    assert build_typed(cfg.data).context == LongTerm(window_s=60, per_second=2, sample="random", pool="rows")
    plain_clip = plain(composed(tmp_path, "experiment=ego4d_clip"))
    assert "operator" not in plain_clip
    assert values["data"]["sources"] == plain_clip["data"]["sources"]  # the same features file


@pytest.mark.parametrize(
    ("experiment", "short_term", "operator"),
    [
        pytest.param(*choice, marks=[] if choice[:2] == ("ava_lfb", "bank") or choice[2] == "nl" else pytest.mark.slow)
        for choice in product(("ava_lfb", "demo_ava"), ("bank", "clips"), ("nl", "avg", "max", "none"))
    ],
)
def test_action_detection_with_any_operator_and_either_short_term(
    tmp_path: Path, experiment: str, short_term: str, operator: str
) -> None:
    cfg = composed(tmp_path, f"experiment={experiment}", f"operator={operator}", f"short_term={short_term}")
    values = plain(cfg)
    check(values)
    kinds = {"nl": "FBONonLocal", "avg": "FBOAvg", "max": "FBOMax", "none": "FBONone"}
    assert values["model"]["operator"]["_target_"] == f"clep.models.{kinds[operator]}"
    data = build_typed(cfg.data)
    assert isinstance(data, RegionDataModule)
    window_s, per_second = {"ava_lfb": (60, 5), "demo_ava": (40, 3)}[experiment]
    assert data.context == LongTerm(window_s=window_s, per_second=per_second)
    assert (data.clips is not None, values["model"]["short_term"] is not None) == (
        short_term == "clips",
        short_term == "clips",
    )
    assert isinstance(build_typed(cfg.loss), nn.BCEWithLogitsLoss)
    assert isinstance(build_typed(cfg.evaluator.ava), AvaRegions)
    assert values["final_weights"] == "last"  # the set that is reported chooses no checkpoint
    jobs = values["prepare"]
    assert values["data"]["train"]["bank"] == jobs["ava_train"]["output"]
    assert values["evaluator"]["ava"]["source"]["bank"] == jobs["ava_val"]["output"]
    assert jobs["ava_train"]["extraction"]["encoder"] == jobs["ava_val"]["extraction"]["encoder"]
    assert [job["boxes"] for job in jobs.values()] == ["annotated", "detected"]
    whole = ("short_term=clips", "prepare.ava_train.extraction.clip_start_s=0")
    films = plain(composed(tmp_path, f"experiment={experiment}", *whole))
    assert films["data"]["clips"]["clip_start_s"] == films["prepare"]["ava_val"]["extraction"]["clip_start_s"] == 0


def test_a_long_term_tower_without_context_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.context is null; use experiment=ego4d_long_term"):
        train(composed(tmp_path, "experiment=ego4d_clip", "model=long_term"))
    with pytest.raises(InputError, match=r"model\.video\.operator\.num_layers='two'"):
        train(composed(tmp_path, "experiment=ego4d_long_term", "operator.num_layers=two"))
    assert list(tmp_path.iterdir()) == []


def test_the_published_recipe(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "experiment=ego4d_tutorial")
    values = plain(cfg)
    source, data = values["data"]["sources"]["ego4d"], values["data"]

    # Moments: windows of ±2 s by the tutorial's formula, every video, sorted by (uid, pass), not shuffled.
    assert (source["span"], source["offset_s"], data["window"]["align"], data["window"]["pool"]) == (
        *("fixed", 2.0),
        *("start", "mean"),
    )
    assert (source["exclude_splits"], source["keep_redacted"], source["val_fraction"]) == ([], True, 0.0)
    assert (source["min_words"], source["duplicate_s"]) == (0, 0.0)
    assert source["order"] == "pass"
    assert (data["shuffle"], data["batch_size"]) == (False, 128)
    assert values["tag_style"] == "tutorial"
    assert isinstance(build_typed(values["positives"]), DiagonalPositives)
    job = values["prepare"]["ego4d_features"]
    assert (job["rows_per_second"], job["row_seconds"]) == (30 / 16, 32 / 30)
    assert (job["rows_per_second"], job["row_seconds"]) == (Clock().rows_per_second, Clock().row_seconds)

    # Towers: Linear-ReLU-Linear, 1536 and 768 to 1536 to 1536, Xavier with the gain of ReLU, zero biases.
    model = DualEncoder.from_config(fill_in_dims(values["model"], 1536, 768))
    for tower, in_dim in ((model.video, 1536), (model.text, 768)):
        first, between, second = tower
        assert isinstance(between, nn.ReLU)
        assert (first.in_features, first.out_features, second.in_features, second.out_features) == (
            *(in_dim, 1536),
            *(1536, 1536),
        )
        for layer in (first, second):
            bound = math.sqrt(2) * math.sqrt(6 / (layer.in_features + layer.out_features))
            assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=1e-2)
            assert not layer.bias.any()

    # Outputs are not normalised; the multiplier is the parameter ln(1/0.07) itself, clamped to [0, ln 100].
    rows = torch.randn(3, 1536)
    torch.testing.assert_close(model.encode_video({"video": rows}), model.video(rows))
    assert model.logit_scale.item() == model.log_scale.item() == pytest.approx(math.log(1 / 0.07))
    with torch.no_grad():
        model.log_scale.fill_(99.0)
    model.clamp_scale()
    assert model.logit_scale.item() == pytest.approx(math.log(100))

    # AdamW, constant rate, PyTorch's default decay on everything, 15 epochs.
    optimizer = build_typed(cfg.optim.optimizer)(model)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"]) == (1e-4, (0.98, 0.9), 1e-6)
    assert group["weight_decay"] == torch.optim.AdamW([nn.Parameter(rows)]).param_groups[0]["weight_decay"]
    assert len(group["params"]) == len(list(model.parameters()))
    assert {build_typed(cfg.optim.schedule)(step, 1000) for step in range(1000)} == {1.0}
    assert (values["trainer"]["max_epochs"], values["trainer"]["gradient_clip_val"]) == (15, None)
    assert values["trainer"]["accumulate_grad_batches"] == 1


def test_clip_proper(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "experiment=ego4d_clip")
    values = plain(cfg)
    model = DualEncoder.from_config(fill_in_dims(values["model"], 1536, 768))
    lengths = model.eval().encode_video({"video": torch.randn(3, 1536)}).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(3))
    assert model.logit_scale.item() == pytest.approx(1 / 0.07)
    decayed = {
        id(parameter)
        for group in build_typed(cfg.optim.optimizer)(model).param_groups
        for parameter in group["params"]
        if group["weight_decay"] > 0
    }
    assert {name for name, value in model.named_parameters() if id(value) in decayed} == {
        name for name, value in model.named_parameters() if name.endswith("weight")
    }
    assert values["data"]["shuffle"]
    assert isinstance(build_typed(values["positives"]), TextIdPositives)
    source = values["data"]["sources"]["ego4d"]
    assert (source["val_fraction"] > 0, source["exclude_splits"]) == (True, ["val", "test", "multi"])
    assert (source["keep_redacted"], source["min_words"], source["duplicate_s"]) == (False, 2, 1.0)
    assert (source["offset_s"], values["data"]["window"]["align"], values["tag_style"]) == (2.0, "centre", "clean")
    assert values["callbacks"]["checkpoint"]["monitor"].startswith("val/")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_epochs=abc", r"trainer\.max_epochs='abc' is of type str, but Trainer takes .*int"),
        ("data.batch_size=true", r"data\.batch_size=True is of type bool, but MomentDataModule takes int"),
        ("data.batch_size=64.5", r"data\.batch_size=64\.5 is of type float"),
        ("+data.batchsize=64", r"data\.batchsize: MomentDataModule has no option .* Did you mean data\.batch_size"),
        ("optim.optimizer.lr=fast", r"optim\.optimizer\.lr='fast'"),
        ("optim.optimizer.betas=0.9", r"optim\.optimizer\.betas=0\.9"),
        ("+model.video.drop_out=0.1", r"model\.video\.drop_out: .* Did you mean model\.video\.dropout"),
        ("data.window.align=center", r"data\.window\.align=center is unknown.*'centre'"),
        ("data.sources.ego4d.on_missing=ignore", r"data\.sources\.ego4d\.on_missing=ignore is unknown.*error, skip"),
        ("evaluator.retrieval.size=big", r"evaluator\.retrieval\.size='big'"),
        ("+positives.threshold=0.8", r"positives\.threshold: TextIdPositives has no option 'threshold'"),
        ("model.init_bias=-10", r"model\.init_bias .*ClipLoss cannot train: a constant cancels in a softmax"),
        (
            "loss=egonce",
            r"VerbNounPositives needs data\.verb_noun .* is null; .*data\.verb_noun=given",
        ),
        ("+loss.chunk=64", r"loss\.chunk: ClipLoss has no option 'chunk'"),
        ("form=everywhere", r"form='everywhere'; choose global or local\. Both propagate the gradient"),
        ("precision=bf16-true", r"precision=bf16-true keeps the weights in half precision.*precision=bf16-mixed"),
        ("final_weights=bset", r"final_weights=bset is unknown.*'best'"),
        ("seed=abc", r"seed='abc' is of type str"),
        ("tag_style=cleen", r"tag_style=cleen is unknown.*'clean'"),
        ("+sed=3", r"sed: this command has no option 'sed'\. Did you mean seed"),
        ("prepare.kinetics.batch_size=big", r"prepare\.kinetics\.batch_size='big'"),
    ],
)
def test_a_wrong_setting_fails_before_anything_starts(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(composed(tmp_path, "experiment=ego4d_clip", override))
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_refuses_a_wrong_type_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    monkeypatch.setattr(sys, "argv", ["train.py", "trainer.max_epochs=abc", f"paths.data={tmp_path / 'data'}", *quiet])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "trainer.max_epochs='abc' is of type str, but Trainer takes" in caplog.text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.batchsize=3", r"^error: there is no setting data\.batchsize\. Did you mean data\.batch_size=3"),
        ("datta.batch_size=3", r"^error: there is no setting datta\.batch_size\. Did you mean data\.batch_size=3\?$"),
        ("optim.optimizer.learning_rate=3", r"optim\.optimizer\.learning_rate\. Did you mean optim\.optimizer\.lr=3"),
    ],
)
def test_the_command_line_suggests_the_right_key(monkeypatch: pytest.MonkeyPatch, word: str, message: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "experiment=ego4d_clip", word])
    with pytest.raises(SystemExit, match=message):
        main()
