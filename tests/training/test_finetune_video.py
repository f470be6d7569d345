"""Supervised fine-tuning of a video encoder: it learns, resumes exactly, and its encoder makes banks."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from clep.bank import FeatureBank
from clep.data import Augmentation, LabelledVideoDataModule, LabelledVideoSource
from clep.errors import InputError
from clep.evaluate import evaluate
from clep.evaluation import VideoAccuracy
from clep.files import read_json
from clep.models import DualEncoder, VideoClassifier
from clep.preprocess.__main__ import main as preprocess
from clep.train import train
from clep.training import ClassifierModule, adamw, warmup_cosine
from tests.colour_films import tiny_timesformer, write_films
from tests.composing import compose_train
from tests.training.tiny_run import tiny_trainer


def module(encoder: dict[str, Any], **options: Any) -> ClassifierModule:
    pl.seed_everything(0, verbose=False)
    model = VideoClassifier.from_config({"encoder": encoder, "classes": ["0", "1", "2"], "dropout": 0.2, **options})
    loss = torch.nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=0.1)
    return ClassifierModule(model, loss, lambda trained: adamw(trained, lr=3e-3), warmup_cosine(0.1))


def data(videos: Path, model: ClassifierModule, **options: Any) -> LabelledVideoDataModule:
    source = LabelledVideoSource(videos, val=videos, on_error=options.pop("on_error", "error"))
    made = LabelledVideoDataModule(source, **{"batch_size": 5, "num_workers": 0, "augment": Augmentation(), **options})
    made.fit_to(model.model.encoder.clip)
    return made


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[list[int], float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((batch["moment"].tolist(), float(outputs["loss"])))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_decodes_the_same_clips_and_ends_the_same(tmp_path: Path, workers: int) -> None:
    videos, encoder = write_films(tmp_path / "films"), tiny_timesformer(tmp_path / "t")
    whole, saver = Losses(), pl.callbacks.ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    straight = module(encoder, checkpointing=True)
    tiny_trainer(tmp_path, callbacks=[whole, saver]).fit(
        straight, datamodule=data(videos, straight, num_workers=workers)
    )
    assert len(whole.seen) == 6
    assert len({loss for _, loss in whole.seen}) == 6
    for done in (1, 4):
        rest, resumed = Losses(), module(encoder, checkpointing=True)
        tiny_trainer(tmp_path, callbacks=[rest]).fit(
            resumed,
            datamodule=data(videos, resumed, num_workers=workers),
            ckpt_path=tmp_path / f"step={done}.ckpt",
            weights_only=True,
        )
        assert rest.seen == whole.seen[done:]
        assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in straight.state_dict().items())


def test_unreadable_videos_are_skipped(tmp_path: Path) -> None:
    videos = write_films(tmp_path / "films", broken=[0, 4])
    learner = module(tiny_timesformer(tmp_path / "t"))
    clips = data(videos, learner, on_error="skip", batch_size=3)
    tiny_trainer(tmp_path, max_epochs=2).fit(learner, datamodule=clips)
    assert clips.report["unreadable videos"] == 2
    assert all(parameter.isfinite().all() for parameter in learner.parameters())
    accuracy = VideoAccuracy(clips.source, num_workers=0)
    assert 0 <= accuracy.run(learner.model)["val/top1"] <= 100
    assert (accuracy.coverage["videos"], accuracy.coverage["decoded"], accuracy.coverage["views of a video"]) == (
        12,
        10,
        3,
    )
    with pytest.raises(InputError, match=r"film0\.mp4.*on_error=skip skips"):
        VideoAccuracy(LabelledVideoSource(videos, val=videos), num_workers=0).run(learner.model)


def test_accuracy_equals_a_count_by_hand(tmp_path: Path) -> None:
    videos = write_films(tmp_path / "films", 7)
    model = module(tiny_timesformer(tmp_path / "t")).model.eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([1.0, 2.0, 0.0]))
    accuracy = VideoAccuracy(
        LabelledVideoSource(videos, val=videos), views=2, crops="centre", num_workers=0, batch_size=3
    )
    metrics = accuracy.run(model)  # always class 1: films 1 and 4 of 7
    assert metrics == {"val/top1": pytest.approx(100 * 2 / 7), "val/top5": 100.0}
    towers = {side: {"_target_": "clep.models.ProjectionHead", "in_dim": 3, "out_dim": 2} for side in ("video", "text")}
    with pytest.raises(InputError, match=r"not DualEncoder"):
        accuracy.run(DualEncoder.from_config(towers))
    model.classes = ["0", "1", "x"]
    with pytest.raises(InputError, match=r"the model has 3 classes"):
        accuracy.run(model)


def composed_run(folder: Path, *options: str) -> list[str]:
    """Train as the command line does on twelve films; return the overrides, those of folders last."""
    videos, encoder = write_films(folder / "films"), tiny_timesformer(folder / "t")
    given = [f"encoder.{key}={'null' if value is None else value}" for key, value in encoder.items() if key[0] != "_"]
    overrides = [
        *("experiment=finetune_video", f"paths.csv={videos}", f"data.source.val={videos}", *given),
        *("encoder.frames=4", "encoder.crop_px=16", "data.batch_size=6", "data.num_workers=0", "logger=none"),
        *("optim.optimizer.lr=0.01", "trainer.accelerator=cpu", "callbacks.progress=null", "report=null", *options),
        *(f"paths.runs={folder / 'runs'}", f"paths.run={folder / 'run'}", f"paths.data={folder}"),
    ]
    train(compose_train(*overrides))
    return overrides


def test_a_run_that_trains_the_linear_layer_alone(tmp_path: Path) -> None:
    composed_run(tmp_path, "model.frozen=all", "optim.optimizer.layer_decay=0.75", "trainer.max_epochs=1")
    learned = VideoClassifier.from_pretrained(tmp_path / "run" / "model")
    given = {"_target_": "clep.video.encoders.TimeSformer", "weights": str(tmp_path / "t"), "frames": 4, "crop_px": 16}
    encoder = module({**given, "width": None, "depth": None, "heads": None}).model.encoder
    assert learned.head.bias.any()
    assert all(torch.equal(value, learned.encoder.state_dict()[name]) for name, value in encoder.state_dict().items())


@pytest.mark.slow
def test_from_a_list_of_films_to_an_encoder_that_makes_banks(tmp_path: Path) -> None:
    options = ("optim.optimizer.lr_factors.encoder=0.3", "model.checkpointing=true", "loss.label_smoothing=0.1")
    overrides = composed_run(tmp_path, *options, "trainer.max_epochs=8")
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["val/top1"] == metrics["val/top5"] == 100.0
    assert metrics["before/val/top1"] < 100
    assert read_json(tmp_path / "run" / "coverage.json")["data"]["training videos"] == 12
    assert evaluate(tmp_path / "run", overrides[:-3])["val/top1"] == 100.0

    (tmp_path / "t").rename(tmp_path / "gone")
    bank = tmp_path / "bank.h5"
    words = ["videos", f"videos={tmp_path / 'films'}", f"output={bank}", "encoder=trained", "device=cpu"]
    assert preprocess([*words, f"encoder.weights={tmp_path / 'run'}", "sampling=segments"]) == 0
    made = FeatureBank.open(bank)
    assert (made.dim, len(made)) == (16, 12)
    assert made.encoder.startswith("t-trained-")
