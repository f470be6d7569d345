"""From moments to batches: datasets, samplers and DataModules.

DataModules are imported on first use: jobs and evaluators do not need them, and Lightning takes seconds to import.
"""

from typing import TYPE_CHECKING, Any

from clep.data.dataset import MixedDataset, MomentDataset, Moments, Window
from clep.data.hard_negatives import HardNegatives
from clep.data.key_frame_clips import KeyFrameClips
from clep.data.long_term import LongTerm
from clep.data.regions import Regions, RegionSource
from clep.data.sampler import Draw, MomentBatchSampler, MomentKeys, SamplingStrategy
from clep.data.scene_aware import SceneAware
from clep.data.source import NarrationSource, Source
from clep.data.text_tokens import TextTokens
from clep.data.unique_texts import UniqueTexts
from clep.data.video_clips import Augmentation, LabelledVideoSource
from clep.datasets.labelled_clips import LabelledClips
from clep.datasets.labelled_videos import LabelledVideos

if TYPE_CHECKING:
    from clep.data.datamodule import MomentDataModule
    from clep.data.region_datamodule import RegionDataModule
    from clep.data.table_datamodule import TableDataModule
    from clep.data.video_datamodule import LabelledVideoDataModule

__all__ = [
    "Augmentation",
    "Draw",
    "HardNegatives",
    "KeyFrameClips",
    "LabelledClips",
    "LabelledVideoDataModule",
    "LabelledVideoSource",
    "LabelledVideos",
    "LongTerm",
    "MixedDataset",
    "MomentBatchSampler",
    "MomentDataModule",
    "MomentDataset",
    "MomentKeys",
    "Moments",
    "NarrationSource",
    "RegionDataModule",
    "RegionSource",
    "Regions",
    "SamplingStrategy",
    "SceneAware",
    "Source",
    "TableDataModule",
    "TextTokens",
    "UniqueTexts",
    "Window",
]


def __getattr__(name: str) -> Any:
    if name == "MomentDataModule":
        from clep.data.datamodule import MomentDataModule

        return MomentDataModule
    if name == "LabelledVideoDataModule":
        from clep.data.video_datamodule import LabelledVideoDataModule

        return LabelledVideoDataModule
    if name == "RegionDataModule":
        from clep.data.region_datamodule import RegionDataModule

        return RegionDataModule
    if name == "TableDataModule":
        from clep.data.table_datamodule import TableDataModule

        return TableDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
