"""Plausible mistakes on the command lines and in Python: each is answered in one line by what to type instead."""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import clep.evaluate
from clep import ablate, leaderboard, report, search, share
from clep.bank import BankWriter, Clock, FeatureBank
from clep.config.compose import compose_config
from clep.config.folder import config_folder
from clep.config.mistakes import HYDRA_OPTIONS, check_words, explain
from clep.config.other_names import INSTEAD, SWITCHES
from clep.errors import InputError
from clep.models import DualEncoder
from clep.preprocess import __main__ as preprocess
from clep.pretrained import PretrainedModel
from clep.training.settings import checked_settings


@cache
def base(experiment: str) -> DictConfig:
    return compose_config("train", [f"experiment={experiment}", "paths.run=run", "paths.data=data"])


@contextmanager
def composed(experiment: str, *words: str) -> Iterator[DictConfig]:
    """Compose as `compose_config` does; settings without a group are applied to one composed config and taken back."""
    parsed = []
    try:
        parsed = OverridesParser.create().parse_overrides(list(words))
        above = [OmegaConf.select(base(experiment), one.key_or_group.rpartition(".")[0] or "data") for one in parsed]
        if None in above or any(
            (config_folder() / one.key_or_group).is_dir() or one.is_sweep_override() for one in parsed
        ):
            yield compose_config("train", [f"experiment={experiment}", "paths.run=run", "paths.data=data", *words])
            return
        cfg = base(experiment)
        before = {one.key_or_group: OmegaConf.select(cfg, one.key_or_group, default=cfg) for one in parsed}
        ConfigLoaderImpl._apply_overrides_to_config(parsed, cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error, words)) from error
    try:
        yield cfg
    finally:
        with open_dict(cfg):
            for key, value in before.items():
                if value is cfg:
                    parent, _, last = key.rpartition(".")
                    del (OmegaConf.select(cfg, parent) if parent else cfg)[last]
                else:
                    OmegaConf.update(cfg, key, value)


def answer(experiment: str, *words: str) -> str:
    """Return what the training command says to these words before it starts anything."""
    with pytest.raises(InputError) as raised:
        check_words(words, HYDRA_OPTIONS)
        with composed(experiment, *words) as cfg:
            checked_settings(cfg, words)
    return str(raised.value)


def pasted(*words: str) -> str:
    """Return what the training command says to these words; empty where it would start."""
    try:
        check_words(words, HYDRA_OPTIONS)
        with composed("ego4d_clip", *words) as cfg:
            checked_settings(cfg, words)
    except InputError as error:
        return str(error)
    return ""


# Words of `python train.py experiment=ego4d_clip …`, and what the answer must contain.
TRAIN = {
    # settings: the right path
    "batch_size=64": "data.batch_size=64?",
    "lr=1e-4": "optim.optimizer.lr=1e-4?",
    "optim.lr=1e-4": "optim.optimizer.lr=1e-4?",
    "learning_rate=1e-4": "optim.optimizer.lr=1e-4?",
    "optimizer.lr=1e-4": "optim.optimizer.lr=1e-4?",
    "model.out_dim=256": "model.video.out_dim=256 or model.text.out_dim=256?",
    "embed_dim=256": "model.video.out_dim=256 or model.text.out_dim=256?",
    "data.val_fraction=0.1": "data.sources.ego4d.val_fraction=0.1?",
    "val_split=0.1": "data.sources.ego4d.val_fraction=0.1?",
    "epochs=3": "trainer.max_epochs=3?",
    "max_epochs=3": "trainer.max_epochs=3?",
    "trainer.epochs=3": "trainer.max_epochs=3?",
    "steps=100": "trainer.max_steps=100?",
    "gpus=2": "trainer.devices=2?",
    "trainer.gpus=2": "trainer.devices=2?",
    "num_workers=4": "data.num_workers=4?",
    "weight_decay=0.1": "optim.optimizer.weight_decay=0.1?",
    "optim.wd=0.1": "optim.optimizer.weight_decay=0.1?",
    "dropout=0.3": "model.video.dropout=0.3 or model.text.dropout=0.3?",
    "model.hidden_dim=64": "model.video.hidden_dim=64 or model.text.hidden_dim=64?",
    "model.video.droput=0.3": "model.video.dropout=0.3?",
    "temperature=0.07": "+model.init_scale=0.07?",
    "resume=true": "ckpt_path=last?",
    "pretrained=runs/a": "init_from=runs/a?",
    "data_dir=/data": "paths.data=/data?",
    "output_dir=out": "paths.runs=out?",
    "sentence_encoder=clip": "text_encoder=clip?",
    "grad_clip=1.0": "trainer.gradient_clip_val=1.0?",
    "trainer.limit_test_batches=3": "+trainer.limit_test_batches=3?",
    "+batch_size=64": "data.batch_size=64?",
    "+model.hidden_dim=64": "model.video.hidden_dim=64 or model.text.hidden_dim=64?",
    "data.sampler.videos=8": "sampler=hard_negatives (as data.sampler.videos)",
    "model.video.heads=4": "model=temporal (as model.video.heads)",
    "evaluator.kinetics.topk=5": "Choose from: ",
    "trainer.max_epoch=3": "trainer.max_epochs=3?",
    "warmup=500": "optim.schedule.warmup=500?",
    "optim.warmup_steps=500": "optim.schedule.warmup=500?",
    "val_every=1": "trainer.check_val_every_n_epoch=1?",
    "checkpoint=runs/a": "ckpt_path=runs/a?",
    "device=cuda": "data.device=cuda?",
    "loss.temperature=0.1": "+model.init_scale=0.1?",
    "callbacks.checkpoint.monitr=val/loss": "callbacks.checkpoint.monitor=val/loss?",
    "data.sources.epic.bank=x.h5": "data.sources.ego4d.bank=x.h5?",
    "logger.wandb.project=x": "logger=wandb (as logger.wandb.project)",
    # groups and their choices
    "early_stopping=true": "callbacks=early_stopping?",
    "callbacks=earlystopping": "callbacks=early_stopping?",
    "prepare=null": "prepare=none?",
    "evaluator=[]": "evaluator=none?",
    "evaluator=null": "evaluator=none?",
    "positives=text": "positives=text_id?",
    "sampler=random": "Choose from: hard_negatives, scene_aware, shuffled, unique_texts.",
    "optim=sgd": "optim=adamw?",
    "logger=wandb,csv": "'logger=[wandb,csv]'",
    "loss=infonce": "loss=clip?",
    "loss=sigllip": "loss=siglip?",
    "loss=unique_texts": "sampler=unique_texts?",
    "evaluator=retreival": "evaluator=retrieval?",
    "evaluator=[kinetics,retreival]": "evaluator=retrieval?",
    "evaluators=retrieval": "evaluator=retrieval?",
    "experiment=ego4dclip": "experiment=ego4d_clip?",
    "optimizer=adamw": "optim=adamw?",
    "optimizer=adam": "optim=adamw?",
    "dataset=egoclip": "data=egoclip?",
    "objective=siglip": "loss=siglip?",
    "arch=temporal": "model=temporal?",
    "model=transformer": "model=temporal?",
    "data=pairs.csv": "experiment=table 'data.table=\"pairs.csv\"'",
    "logger=tb": "logger=tensorboard?",
    "operator=nl": "model=long_term",
    "ego4d_tutorial": "experiment=ego4d_tutorial?",
    "debug=true": "limit, overfit, profile",
    # values
    "optim.optimizer.lr=-1": "optim.optimizer.lr=-1 must be at least 0",
    "data.num_workers=-1": "data.num_workers=-1 must be at least 0",
    "data.batch_size=0": "data.batch_size=0 must be at least 1",
    "model.video.dropout=1.5": "model.video.dropout=1.5 must be at least 0 and at most 1",
    "trainer.max_epochs=ten": "trainer.max_epochs='ten' is of type str, but Trainer takes ",
    "model.video.out_dim=256": "set model.video.out_dim=256 model.text.out_dim=256",
    "trainer.accelerator=gpu": "use trainer.accelerator=cpu",
    "trainer.devices=4": "use trainer.devices=1",
    "data.window.align=center": "data.window.align=center is unknown. Did you mean 'centre'?",
    "tag_style=cleen": "tag_style=cleen is unknown. Did you mean 'clean'?",
    "model.video.activation=rellu": "model.video.activation=rellu is unknown. Did you mean 'relu' or 'gelu'?",
    "+model.text.init=xavier": "model.text.init=xavier is unknown. Choose from: default, tutorial.",
    "model.scale_form=expp": "model.scale_form=expp is unknown. Did you mean 'exp'?",
    "precision=fp17": "trainer.precision=fp17 is unknown. Choose from: ",
    "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch=0 must be at least 1",
    "trainer.accelerator=cuda": "use trainer.accelerator=cpu",
    "data.batch_size=64.5": "data.batch_size=64.5 is of type float, but MomentDataModule takes int",
    "seed=abc": "seed='abc' is of type str",
    "final_weights=lst": "final_weights=lst is unknown. Did you mean 'last'?",
    # words that are no settings
    "--epochs=3": "written without dashes. Did you mean trainer.max_epochs=3?",
    "--hepl": "Did you mean --help?",
    "data.batch_size": "write the key, = and the value without blanks",
    "pairs.csv": "data.table=",
    "seed=0,1,2": "add -m",
    "+trainer.fast_dev_run=true": "trainer.fast_dev_run is a setting already: write it without +",
    # switches and names of other frameworks
    "verbose=true": "Did you mean hydra.verbose=true?",
    "freeze=true": "model=trainable_text model.text.frozen_layers=6",
    "model.freeze=true": "model=end_to_end model.video.frozen=4",
    "profile=true": "Did you mean debug=profile?",
    "wandb=true": "Did you mean logger=wandb?",
    "tensorboard=true": "Did you mean logger=tensorboard?",
    "early_stop=true": "Did you mean callbacks=early_stopping?",
    "fp16=true": "Did you mean precision=16-mixed?",
    "cuda=true": "Did you mean trainer.accelerator=gpu?",
    "cpu=true": "Did you mean trainer.accelerator=cpu?",
    "gpu=0": "Did you mean trainer.devices=0?",
    "ddp=true": "Did you mean trainer.devices=2 trainer.strategy=ddp?",
    "devices=2": "Did you mean trainer.devices=2?",
    "dry_run=true": "Did you mean trainer.fast_dev_run=true or debug=limit?",
    "eval_only=true": "python -m clep.evaluate ckpt=RUN",
    "mode=eval": "python -m clep.evaluate ckpt=RUN",
    "train=false": "python -m clep.evaluate ckpt=RUN",
    "ckpt=runs/a": "Did you mean ckpt_path=runs/a?",
    "run_name=x": "Did you mean name=x?",
    "random_seed=1": "Did you mean seed=1?",
    "ema_decay=0.999": "Did you mean ema=0.999?",
    "log_every=10": "Did you mean trainer.log_every_n_steps=10?",
    "progress_bar=false": "callbacks.progress=null",
    "something=else": "python train.py --help lists the groups and settings",
    # arguments of the Trainer of earlier versions, and those that a run fills in
    "trainer.progress_bar_refresh_rate=10": "Did you mean callbacks.progress.refresh_rate=10?",
    "trainer.weights_summary=top": "Did you mean trainer.enable_model_summary=true?",
    "trainer.auto_lr_find=true": "hparams_search=optuna",
    "trainer.tpu_cores=8": "Did you mean trainer.accelerator=tpu trainer.devices=8?",
    "trainer.resume_from_checkpoint=runs/a": "Did you mean ckpt_path=runs/a?",
    "trainer.logger=false": "logger=none for none",
    "+trainer.logger=false": "logger=none for none",
    "+trainer.enable_progress_bar=false": "callbacks.progress=null",
    "trainer=ddp": "Did you mean trainer.strategy=ddp?",
    "trainer=gpu": "Did you mean trainer.accelerator=gpu?",
    "debug=fast_dev_run": "Did you mean trainer.fast_dev_run=true?",
    # settings of jobs that read videos, and of tables
    "encoder=lavila": "python -m clep.preprocess videos videos=DIR output=BANK.h5 encoder=lavila, or to a training on "
    "a table with videos: experiment=table data.table=FILE data.videos=DIR encoder=lavila",
    "encoder=lavilla": "encoder=lavila",
    "model=lavila": "data.videos=DIR encoder=lavila",
    "compute=slurm": "python -m clep.preprocess JOB compute=slurm",
    "data.fps=8": "python -m clep.preprocess videos videos=DIR output=BANK.h5 rate=8",
    "num_frames=16": "encoder.frames=16",
    "image_size=224": "encoder.crop_px=224",
    "stride=16": "output=BANK.h5 stride=16",
    "clip_length=4": "data.sources.ego4d.offset_s, seconds on each side",
    "data.window.seconds=4": "data.sources.ego4d.offset_s, seconds on each side",
    "features=DIR": "experiment=table data.table=FILE data.features=DIR",
    "csv=pairs.csv": "experiment=table data.table=FILE",
    "data.table=pairs.csv": "experiment=table (as data.table)",
    # parts
    "scheduler=cosine": "optim.schedule? It is a part, clep.training.warmup_cosine: set optim.schedule.warmup",
    "optim.schedule=cosine": "optim.schedule=cosine is not a part",
    "evaluator.kinetics=true": "evaluator=kinetics chooses one of conf/evaluator",
    "data.window=4": "it has settings of its own (align, pool, max_rows, sample): data.window.NAME=VALUE",
    "loss=SigmoidLoss": "Did you mean loss=siglip?",
    "model=ProjectionHead": "Did you mean model=mlp",
    "sampler=HardNegatives": "Did you mean sampler=hard_negatives?",
    # choices
    "experiment=mine.yaml": "DIR/experiment/mine.yaml, is chosen by experiment=mine --config-dir DIR",
    "experiment=conf/experiment/demo.yaml": "Did you mean experiment=demo?",
    "logger=tensorboardd": "Did you mean logger=tensorboard?",
    "logger=false": "Did you mean logger=none?",
    "callbacks=null": "there is no callbacks=null. Choose from: default, early_stopping, last.",
    "experiment=": "experiment= names no choice. Choose from: ",
    # names that Lightning checks only when the run starts
    "trainer.strategy=ddpp": "trainer.strategy=ddpp is unknown. Did you mean 'ddp'",
    "trainer.accelerator=gpuu": "trainer.accelerator=gpuu is unknown. Did you mean 'gpu'?",
    "trainer.profiler=simpl": "Did you mean 'simple'?",
    "trainer.profiler=true": "trainer.profiler=true is unknown. Choose from: simple, advanced, pytorch, xla.",
    "trainer.gradient_clip_algorithm=nrm": "Did you mean 'norm'?",
    "trainer.max_time=2h": "trainer.max_time=00:02:00:00",
    "trainer.max_time=3600": "trainer.max_time=00:01:00:00",
    "trainer.devices=0": "trainer.accelerator=cpu trainer.devices=1",
    "trainer.devices=all": "auto or -1 for all",
    # values
    "precision=fp16": "Did you mean '16-mixed'?",
    "trainer.max_epochs=1e2": "write trainer.max_epochs=100",
    "trainer.max_steps=10k": "write trainer.max_steps=10000",
    "trainer.limit_train_batches=10%": "write trainer.limit_train_batches=0.1",
    "'data.batch_size=\"64\"'": "write data.batch_size=64",
    "data.shuffle=yes": "write data.shuffle=true",
    "compile=yes": "this command takes bool there; write compile=true",
    "data.batch_size=": "the value behind = is missing",
    "data.sources.ego4d.exclude_splits=val": "write 'data.sources.ego4d.exclude_splits=[val]'",
    "optim.optimizer.lr=0,001": "a fraction is written optim.optimizer.lr=0.001",
    "data.batch_size=64,": "write data.batch_size=64",
    "seed=-1": "seed=-1 must be at least 0",
    "~loss": "this command needs 'loss'",
    # words as another program, or a shell, would have them
    "--lr 1e-4": "Did you mean optim.optimizer.lr=1e-4?",
    "-lr=1e-4": "Did you mean optim.optimizer.lr=1e-4?",
    "--batch-size 64": "Did you mean data.batch_size=64?",
    "--experiment demo": "Did you mean experiment=demo?",
    "data.batch_size: 64": "Did you mean data.batch_size=64?",
    "data.batch_size = 64": "Did you mean data.batch_size=64?",
    "data.batch_size 64": "Did you mean data.batch_size=64?",
    "experiment demo": "Did you mean experiment=demo?",
    "data.batch-size=64": "Did you mean data.batch_size=64?",
    "optim.optimizer.betas=[0.9, 0.98]": "Did you mean 'optim.optimizer.betas=[0.9, 0.98]'?",
    "paths.data=/a b/c": "Did you mean 'paths.data=\"/a b/c\"'?",
    "paths.data=~/data": 'write "paths.data=$HOME/data"',
    "=64": "there is no key before =",
}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


@pytest.mark.parametrize(("word", "expected"), TRAIN.items())
def test_the_training_command_answers(word: str, expected: str) -> None:
    found = answer("ego4d_clip", *shlex.split(word))
    assert expected in found
    assert "\n" not in found
    suggested = re.search(r"Did you mean ((?:'[^']+=[^']+'|[\w.]+\.[\w.]+=[^\s?]+) ?)+(\?| or )", found)
    if suggested and "," not in word:  # what is suggested exists; its value, taken over from the mistake, may not do
        assert not re.search("there is no|no option|cannot read", pasted(*shlex.split(suggested.group(1))))


# Names of files as they are, and the word around them.
NAMES = [
    "it's.csv",
    "a=b.csv",
    "copy (1).csv",
    "#3.csv",
    "a,b.csv",
    "a{b}.csv",
    "2019_05_12",
    "12",
    "1e5",
    'say "hi".csv',
]


@pytest.mark.parametrize("name", NAMES)
def test_the_quoting_that_is_printed_gives_the_name(name: str) -> None:
    """Pasted into a shell, and read by Hydra, the printed word has the value that was meant."""
    word = f"data.table={name}"
    found = answer("table", word)
    printed = found[found.index("'data.table=") :]
    *_, pasted = [one for one in shlex.split(printed.partition("; to train")[0]) if one.startswith("data.table=")]
    with composed("table", pasted) as cfg:
        assert cfg.data.table == name
        checked_settings(cfg, [pasted])


PREPROCESS = {
    "kinetcs": "Did you mean 'kinetics'?",
    "kinetics feature=x": "Did you mean 'features",
    "ego4d_features overwrit=true": "Did you mean 'overwrite'?",
    "kinetics paths.dta=x": "Did you mean 'data'?",
    "videos videos=2019_05_12 output=x.h5": "'videos=\"2019_05_12\"'",
    "videos videos=a=b output=x.h5": "'videos=\"a=b\"'",
    "videos videos=a,b output=x.h5": "'videos=\"a,b\"'",
    "videos videos=x output=x.h5 encoder=timesformr_k400": "Did you mean 'timesformer_k400'",
    "videos videos=x output=x.h5 bs=3": "Did you mean 'clip_batch'?",
    "kinetics batch_size=0": "batch_size=0 must be at least 1",
    "clip table=a.csv": "Did you mean 'clips'",
    "clips clip_column=id": "Did you mean 'columns'?",
    "video videos=x": "Did you mean 'videos'?",
    "videos videos=x output=y.h5 fps=8": "Did you mean 'rate'?",
    "videos videos=x output=y.h5 clip_length=4": "Did you mean 'window'?",
    "videos videos=x output=y.h5 frames=16": "Did you mean 'encoder.frames'?",
    "videos videos=x output=y.h5 model=lavila": "Did you mean 'encoder'?",
    "videos videos=x output=y.h5 num_workers=4": "Did you mean 'decode_threads'?",
    "videos videos=x output=y.h5 encoder=LaViLa": "Did you mean 'lavila'?",
    "videos videos=x output=y.h5 overwrite=yes": "write overwrite=true",
    "videos videos=x output=~/y.h5": 'write "output=$HOME/y.h5"',
    "videos videos=x output=": "the value behind = is missing",
    "features features=x output=y.h5 fps=2": "Did you mean 'rows_per_second'?",
    "table csv=pairs.csv": "Did you mean 'table'?",
    "kinetics data=x": "Did you mean 'paths.data'?",
    "kinetics experiment=demo": "It is a setting of the training, python train.py experiment",
    "kinetics =5": "the key before = is missing",
}


def words_of(line: str) -> list[str]:
    return line.split()


@pytest.mark.parametrize(("line", "expected"), PREPROCESS.items())
def test_a_job_answers(line: str, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert preprocess.main(words_of(line)) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert expected in printed
    assert printed.count("\n") == 1


COMMANDS: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "evaluator=kinetcs ckpt=x": (clep.evaluate.main, "Did you mean 'kinetics'?"),
    "ckpt=nowhere": (clep.evaluate.main, "nowhere"),
    "checkpoint=x": (clep.evaluate.main, "ckpt=PATH is needed"),
    "model=joint_space evaluator=epic_mir evaluator.epic_mir.bnk=x": (clep.evaluate.main, "evaluator.epic_mir.bank=x?"),
    "ablation=objectivs": (ablate.main, "Did you mean 'objectives'?"),
    "experiment=demo batch_size=8,16": (ablate.main, "data.batch_size=8?"),
    "runs/a": (clep.evaluate.main, "Did you mean ckpt=runs/a?"),
    "--ckpt runs/a": (clep.evaluate.main, "Did you mean ckpt=runs/a?"),
    "ckpt = runs/a": (clep.evaluate.main, "Did you mean ckpt=runs/a?"),
    "ckpt_path=runs/a": (clep.evaluate.main, "ckpt=PATH is needed (did you mean ckpt=runs/a?)"),
    "ckpt=. device=gpu": (clep.evaluate.main, "device='gpu' is unknown: give cpu, cuda or cuda:0"),
    "ckpt=~/runs/a": (clep.evaluate.main, 'write "ckpt=$HOME/runs/a"'),
    "objectives": (ablate.main, "Did you mean ablation=objectives?"),
    "--ablation objectives": (ablate.main, "Did you mean ablation=objectives?"),
    "egomcq": (leaderboard.main, "Did you mean benchmarks=egomcq?"),
    "model=lavila_tsf_b": (leaderboard.main, "Did you mean 'models'?"),
    "benchmark=egomcq": (leaderboard.main, "Did you mean 'benchmarks'?"),
    "--models lavila_tsf_b": (leaderboard.main, "Did you mean models=lavila_tsf_b?"),
    "models=lavila_tsf_c": (leaderboard.main, "Did you mean 'lavila_tsf_"),
    "run=runs/a": (report.main, "python -m clep.report runs/a"),
    "nowhere.csv": (report.main, "nowhere.csv is not a folder"),
    "runs/b": (search.main, "Did you mean model=runs/b?"),
    "ckpt=runs/b bank=x.h5": (search.main, "Did you mean 'model'?"),
    "model=runs/b port=80a": (search.main, "port='80a' is of type str"),
    "--run runs/a": (share.main, "Did you mean run=runs/a?"),
    "ckpt=runs/a repo=me/model": (share.main, "Did you mean 'run'?"),
    "run=runs/a repo=me/model dry_run=maybe": (share.main, "dry_run=maybe must be true or false"),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_the_other_commands_answer(
    line: str, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command, expected = COMMANDS[line]
    with caplog.at_level("ERROR"):
        try:
            status = command(words_of(line))
        except SystemExit as ended:
            status = ended.code
    assert status == 1
    assert expected in caplog.text
    assert "Traceback" not in caplog.text


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> FeatureBank:
    path = tmp_path_factory.mktemp("bank") / "bank.h5"
    with BankWriter(path, dim=4, clock=Clock(rows_per_second=2.0, row_seconds=0.5)) as writer:
        writer.add("kitchen_01", np.ones((9, 4), np.float32))
    return FeatureBank.open(path)


@pytest.fixture(scope="module")
def model() -> PretrainedModel:
    head = {"_target_": "torch.nn.Linear", "in_features": 4, "out_features": 3}
    return PretrainedModel(DualEncoder.from_config({"video": head, "text": head}), "cpu")


PYTHON: dict[str, tuple[Callable[[PretrainedModel, FeatureBank], Any], str]] = {
    "a path as the bank": (lambda m, b: m.search("bank.h5", "a cup"), r"FeatureBank\.open\('bank\.h5'\)"),  # type: ignore[arg-type]
    "no text": (lambda m, b: m.search(b), r"missing a required argument: 'query'; .*model\.search\(bank, "),  # type: ignore[call-arg]
    "texts to embed_video": (lambda m, b: m.embed_video(text=["a"]), r"model\.embed_text\(\[\.\.\.\]\)"),  # type: ignore[call-arg]
    "an unknown id": (
        lambda m, b: m.embed_video(b, "kitchen_1", 0, 1),
        r"no rows of video 'kitchen_1'.*Did you mean 'kitchen_01'",
    ),
    "unknown ids": (lambda m, b: m.search(b, "a", videos=["x", "y"]), r"no rows of video 'x' \(2 such\)"),
    "a device that is none": (lambda m, b: PretrainedModel(m.encoder, "gpu"), "give cpu, cuda or cuda:0"),
    "an unknown id to similarity": (lambda m, b: m.similarity(b, "a", "x"), r"no rows of video 'x'"),
}


@pytest.mark.parametrize("what", PYTHON)
def test_a_model_answers(what: str, model: PretrainedModel, bank: FeatureBank) -> None:
    call, expected = PYTHON[what]
    with pytest.raises(InputError, match=expected):
        call(model, bank)


def test_nothing_was_dropped_from_the_tables() -> None:
    assert len(TRAIN) + len(NAMES) + len(PREPROCESS) + len(COMMANDS) + len(PYTHON) >= 245


SENTENCES = [sentence for table in (INSTEAD, SWITCHES) for sentence in table]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_settings_of_the_table_of_other_names_exist(sentence: str) -> None:
    """Each `key=value` that it names composes and passes the checks, but for devices that this machine lacks."""
    for chunk in re.findall(r"(?:[a-z][\w.]*=[\w.\[\]-]+ ?)+", sentence):
        if re.search(r"=[A-Z]|hparams_search", chunk):  # a placeholder, or an extra
            continue
        said = pasted(*(word for word in chunk.split() if not word.startswith("hydra.")))
        assert not said or "this machine" in said


def test_a_choice_of_hydra_is_found_by_a_part_of_its_name() -> None:
    options = ["basic", "submitit_local", "submitit_slurm"]
    error = MissingConfigException("Could not find 'hydra/launcher/slurm'", "hydra/launcher/slurm", options)
    assert explain(error) == "there is no hydra/launcher=slurm. Did you mean hydra/launcher=submitit_slurm?"
