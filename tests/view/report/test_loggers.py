"""What the loggers get: hyperparameters, final metrics apart from the curves, figures, retrievals, embeddings."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pytorch_lightning.loggers import TensorBoardLogger

from clep.training import CurveLogger
from clep.training.display import log_final_metrics
from clep.view.report.loggers import log_figures
from clep.view.report.record import read_run
from tests.view.report.made_run import made_run


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = read_run(made_run(tmp_path / "run", pairs=30))
    logger = TensorBoardLogger(tmp_path, name=None, version="tb", default_hp_metric=False)
    log_final_metrics([logger], {"data": {"batch_size": 5}}, {"val/retrieval/t2v/r1": 12.0, "train/loss": 1.0})
    log_figures(run, [logger])
    logger.experiment.flush()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert events.Tags()["scalars"] == ["final/val/retrieval/t2v/r1"]
    assert set(events.Tags()["images"]) == {
        "report/val/retrieval/similarities",
        "report/zeroshot/kinetics/classes",
        "report/zeroshot/ego_charades/all/label/classes",
        *(f"report/val/retrieval/{way}/queries" for way in ("t2v", "v2t")),
    }
    assert "_hparams_/session_start_info" in events.summary_metadata
    (texts,) = (tmp_path / "tb").rglob("metadata.tsv")
    assert texts.read_text().splitlines() == run.pairs[0].text[:30]
    (rows,) = (tmp_path / "tb").rglob("tensors.tsv")
    np.testing.assert_allclose(np.loadtxt(rows), run.pairs[0].video_rows.astype(np.float32), atol=1e-4)


class WandbLogger:
    """Stands in for W&B's logger: what Lightning's class passes on."""

    def __init__(self) -> None:
        self.experiment = SimpleNamespace(summary={})
        self.images: dict[str, Any] = {}
        self.hyperparameters: dict[str, Any] = {}

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.hyperparameters = params

    def log_image(self, key: str, images: list[np.ndarray]) -> None:
        self.images[key] = images[0]

    def save(self) -> None: ...


def test_weights_and_biases(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    logger = WandbLogger()
    run = read_run(made_run(tmp_path / "run", pairs=30))
    log_final_metrics([logger], {"seed": 3}, {"a/top1": 5.0, "train/loss": 1.0})
    log_figures(run, [logger])
    assert logger.experiment.summary == {"final/a/top1": 5.0}
    assert logger.hyperparameters == {"seed": 3}
    assert len(logger.images) == 5
    assert all(image.ndim == 3 and image.dtype == np.uint8 and image.std() > 1 for image in logger.images.values())


def test_a_logger_without_images_gets_hyperparameters_alone(tmp_path: Path) -> None:
    logger = CurveLogger(tmp_path, name=None, version="csv")
    log_final_metrics([logger], {"seed": 3}, {"a/top1": 5.0})
    log_figures(read_run(made_run(tmp_path / "run", pairs=10)), [logger])
    assert "seed: 3" in (tmp_path / "csv" / "hparams.yaml").read_text()
