"""AVA from the command's side: drawn films → banks → two epochs → frame mAP, from the run, a checkpoint and a csv."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from clep.data import Regions
from clep.demo import SyntheticAVA
from clep.errors import InputError
from clep.evaluate import evaluate, main
from clep.files import read_json
from clep.models import ActionClassifier, load_model
from clep.train import train
from tests.composing import compose_train

pytest.importorskip("efficientnet_lite_pytorch")
DATASET = SyntheticAVA(train_videos=4, val_videos=2, video_s=9, talk_s=2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ava")
    DATASET.make(folder, progress=False)
    return folder


def words(dataset: Path, run: Path, *more: str) -> list[str]:
    paths = [f"paths.data={dataset}", f"paths.runs={run.parent}", f"paths.run={run}", "synthetic=null"]
    small = ["logger=none", "report=null", "prepare.ava_train.extraction.encoder.crop_px=64", "trainer.max_epochs=2"]
    on_cpu = ["trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu", "prepare.ava_train.extraction.device=cpu"]
    return ["experiment=demo_ava", *paths, *small, *on_cpu, *more]


def composed(overrides: list[str]) -> DictConfig:
    return compose_train(*overrides)


def test_from_films_to_frame_map(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = words(dataset, tmp_path / "run", "operator=nl", "data.batch_size=8", "data.context.window_s=20")
    metrics = train(composed(overrides))
    run = tmp_path / "run"
    assert metrics["ava/mAP"] > read_json(run / "metrics.json")["before/ava/mAP"]
    regions = Regions.open(dataset / "clep" / "ava" / "train.regions.h5")
    assert len(regions) > 30
    assert read_json(run / "coverage.json")["data"]["train"]["regions"] == len(regions)
    model = load_model(run)
    assert isinstance(model, ActionClassifier)
    assert model.metadata["context"]["window_s"] == 20

    (run / ".hydra").mkdir()
    listed = "\n".join(f"- {word}" for word in overrides if not word.startswith("paths.run="))
    (run / ".hydra" / "overrides.yaml").write_text(listed)
    again = evaluate(run, [], tmp_path / "again", "cpu")
    assert again["ava/mAP"] == pytest.approx(metrics["ava/mAP"], abs=1e-4)
    assert (tmp_path / "again" / "ava" / "results.csv").read_text() == (run / "ava" / "results.csv").read_text()
    main([f"ckpt={run}/checkpoints/last.ckpt", "evaluator=ava", f"out={tmp_path / 'ckpt'}", "device=cpu"])
    assert read_json(tmp_path / "ckpt" / "metrics.json")["ava/mAP"] == pytest.approx(again["ava/mAP"])
    excluded = f"excluded={dataset}/ava/ava_val_excluded_timestamps_v2.2.csv"
    files = [f"predictions={run}/ava/results.csv", f"groundtruth={dataset}/ava/ava_val_v2.2.csv", excluded]
    main(["evaluator=ava", *files, f"out={tmp_path / 'csv'}"])
    assert read_json(tmp_path / "csv" / "metrics.json")["ava/mAP"] == again["ava/mAP"]


@pytest.mark.slow
def test_an_encoder_that_is_trained_on_the_clips(dataset: Path, tmp_path: Path) -> None:
    encoder = ["model.short_term.encoder.frames=1", "model.short_term.encoder.crop_px=64", "data.clips.clip_s=0"]
    more = [
        "short_term=clips",
        "operator=avg",
        *encoder,
        "data.batch_size=8",
        "data.num_workers=0",
        "trainer.max_steps=3",
    ]
    overrides = words(dataset, tmp_path / "run", *more, "model.short_term.checkpointing=true")
    metrics = train(composed(overrides))
    assert 0 < metrics["ava/mAP"] <= 100
    model = load_model(tmp_path / "run")
    assert isinstance(model, ActionClassifier)
    assert model.short_term is not None
    assert model.metadata["clips"]["frames"] == 1
    fresh = ActionClassifier.from_config({**(model.config or {}), "metadata": {}})
    assert fresh.short_term is not None
    (trained, *_), (published, *_) = model.short_term.encoder.parameters(), fresh.short_term.encoder.parameters()
    moved = (trained - published).abs().max()
    assert moved > 0  # the encoder itself was trained
    assert composed(overrides).optim.optimizer.lr_factors == {"short_term": 0.01}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.train.bank={w}/none.h5", r"none\.h5"),
        ("data.label_map={w}/none.pbtxt", r"none\.pbtxt does not exist"),
        ("data.batch_size=5000", r"data\.batch_size"),
        ("+data.clips.videos={w}", r"data\.clips"),
    ],
)
def test_what_a_user_can_mend_is_told(dataset: Path, tmp_path: Path, word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(composed(words(dataset, tmp_path / "run", word.format(w=dataset))))
