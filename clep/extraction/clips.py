"""The features of an evaluation set made from its videos, in place of features that somebody else extracted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

from clep.data.clips import LabelledClips
from clep.errors import InputError
from clep.extraction.extract import extract
from clep.extraction.feature_packing import PackSettings
from clep.extraction.items import VideoItem
from clep.extraction.listing import find_files
from clep.extraction.settings import Extraction


@dataclass(frozen=True)
class ClipSource:
    """Where the rows of an evaluation set come from: features that somebody made, or its videos, which go first.

    Attributes:
        features: a folder of `<id>.pt` or `.npy` files, or a feature bank.
        videos: a folder; the video of a clip is <id>.mp4 (or another suffix) in it or in a folder in it.
        extraction: how videos are encoded.
        durations: seconds of the clips, where known; of videos a guess at their cost.
    """

    features: str | Path | None = None
    videos: str | Path | None = None
    extraction: Mapping[str, Any] | Extraction | None = None
    durations: Mapping[str, float] = field(default_factory=dict)


def encode_clips(
    clips: LabelledClips, source: ClipSource, output: Path, settings: PackSettings, overwrite: bool
) -> dict[str, Any]:
    """Encode the videos of an evaluation set into a bank and return the coverage.

    Args:
        clips: their ids name the videos.
        source: of which `videos` is given.
        output: the bank.
        settings: number format of the bank, and what to do about a video that cannot be used.
        overwrite: encode everything anew.

    Raises:
        InputError: none of the clips has a video, or see `extract`.
    """
    assert source.videos is not None
    items = clip_items(clips.ids, source)
    if not items:
        first = list(clips.ids[:3])
        raise InputError(
            f"{source.videos} has a video for none of the {len(clips.ids)} clips, which are called {first}"
        )
    found, folder = {item.id for item in items}, Path(source.videos).name
    return extract(
        f"{clips.task} videos",
        items,
        output,
        source.extraction,
        source=f"{clips.task}: {folder}",
        dtype=settings.dtype,
        on_error=settings.on_error,
        overwrite=overwrite,
        skipped={name: f"no video {name}.mp4 in {folder}" for name in clips.ids if name not in found},
    )


def clip_items(ids: Sequence[str], source: ClipSource) -> list[VideoItem]:
    """Return the videos that there are of clips.

    Raises:
        InputError: the folder of videos does not exist.
    """
    files = find_files(source.videos or "", ids)
    return [VideoItem(name, str(path), duration_s=source.durations.get(name, nan)) for name, path in files.items()]
