"""A run of a few steps on tiny files."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from clep.data import MomentDataModule
from clep.losses import ClipLoss
from clep.models import DualEncoder
from clep.training import ContrastiveModule, adamw, warmup_cosine
from tests.tiny_source import TEXT_DIM, VIDEO_DIM, tiny_source


def tiny_model(dropout: float = 0.2, seed: int = 0, **options: Any) -> DualEncoder:
    pl.seed_everything(seed, verbose=False)
    towers = {
        side: {
            "_target_": "clep.models.ProjectionHead",
            "in_dim": dim,
            "hidden_dim": 16,
            "out_dim": 6,
            "dropout": dropout,
        }
        for side, dim in (("video", VIDEO_DIM), ("text", TEXT_DIM))
    }
    return DualEncoder.from_config({**towers, **options})


def tiny_module(**options: Any) -> ContrastiveModule:
    dropout = options.pop("dropout", 0.2)
    return ContrastiveModule(
        tiny_model(dropout), ClipLoss(), lambda model: adamw(model, lr=0.01), warmup_cosine(0.1), **options
    )


def tiny_data(folder: Path, **options: Any) -> MomentDataModule:
    return MomentDataModule({"tiny": tiny_source(folder, val_fraction=0.28)}, **{"batch_size": 20, **options})


def tiny_trainer(folder: Path, **options: Any) -> pl.Trainer:
    usual = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
        "max_epochs": 3,
        "log_every_n_steps": 1,
    }
    return pl.Trainer(**{**usual, **options})
