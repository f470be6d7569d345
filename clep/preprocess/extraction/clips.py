"""The features of an evaluation set made from its videos, in place of features that somebody else extracted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clep.errors import InputError
from clep.preprocess.extraction.extract import extract
from clep.preprocess.extraction.items import VideoItem
from clep.preprocess.extraction.listing import find_files
from clep.preprocess.extraction.settings import Extraction
from clep.preprocess.feature_packing import Dtype, OnError


def encode_clips(
    task: str,
    ids: Sequence[str],
    videos: str | Path,
    output_folder: str | Path,
    extraction: dict[str, Any] | Extraction | None,
    dtype: Dtype,
    on_error: OnError,
    overwrite: bool,
    durations: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Encode the videos of an evaluation set into `features.h5` in its folder and return the coverage.

    Args:
        task: name of the set.
        ids: of its clips; the video of a clip is <id>.mp4 (or another suffix) in `videos` or a folder in it.
        videos: folder.
        output_folder: of the set.
        extraction: how they are encoded.
        dtype: number format of the bank.
        on_error: "skip" lists videos that cannot be used and goes on, "stop" ends at the first of them.
        overwrite: encode everything anew.
        durations: seconds of the clips, where known; a guess at their cost.

    Raises:
        InputError: none of the clips has a video, or see `extract`.
    """
    output = Path(output_folder) / "features.h5"
    files = find_files(videos, ids)
    if not files:
        raise InputError(f"{videos} has a video for none of the {len(ids)} clips, which are called {list(ids[:3])}")
    seconds = durations or {}
    items = [VideoItem(name, str(path), duration_s=seconds.get(name, float("nan"))) for name, path in files.items()]
    skipped = {name: f"no video {name}.mp4 in {Path(videos).name}" for name in ids if name not in files}
    return extract(
        f"{task} videos",
        items,
        output,
        extraction,
        source=f"{task}: {Path(videos).name}",
        dtype=dtype,
        on_error=on_error,
        overwrite=overwrite,
        skipped=skipped,
    )
