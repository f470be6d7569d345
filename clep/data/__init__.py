"""Moments, the datasets that fetch them, and the LightningDataModule."""

from clep.data.clips import LabelledClips
from clep.data.datamodule import MomentDataModule
from clep.data.dataset import MixedDataset, MomentDataset
from clep.data.moments import Moments
from clep.data.sampler import Draw, MomentBatchSampler
from clep.data.source import NarrationSource
from clep.data.window import Window

__all__ = [
    "Draw",
    "LabelledClips",
    "MixedDataset",
    "MomentBatchSampler",
    "MomentDataModule",
    "MomentDataset",
    "Moments",
    "NarrationSource",
    "Window",
]
