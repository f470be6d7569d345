"""Job: Ego4D's videos and ego4d.json → one bank of the rows of a frozen encoder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clep.datasets.ego4d import Ego4DVideo, read_videos
from clep.extraction import Extraction, VideoItem, extract
from clep.extraction.items import Dtype, OnError
from clep.extraction.listing import find_files
from clep.extraction.videos import videos_cost_warning


def run(
    *,
    videos: str | Path,
    ego4d_json: str | Path,
    output: str | Path,
    extraction: dict[str, Any] | Extraction,
    dtype: Dtype = "float16",
    on_error: OnError = "skip",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Encode Ego4D's videos with a frozen encoder into one feature bank; of a stereo video the left eye.

    Continues where an interrupted run stopped; encodes only what is new or has changed.

    Args:
        videos: folder of <video_uid>.mp4 files, as `full_scale` of Ego4D's download.
        ego4d_json: Ego4D's metadata: which videos there are, how long, and which are stereo.
        output: the bank to write, e.g. ego4d_features.h5; its ledger and coverage go beside it.
        extraction: how they are encoded, see its options below.
        dtype: number format of the bank; float16 halves its size.
        on_error: "skip" lists videos that cannot be used and goes on, "stop" ends at the first of them.
        overwrite: encode everything anew.

    Returns:
        The coverage: counts, and lists of the videos that are not in the bank, with the reason.

    Raises:
        InputError: the metadata is missing or of another layout, no video could be encoded, or the disk is full.
    """
    known = read_videos(ego4d_json)
    files = find_files(videos, list(known))
    skipped = {uid: f"no file {uid}.mp4 in {Path(videos).name}" for uid in known if uid not in files}
    return extract(
        "ego4d_videos",
        _items(files, known),
        output,
        extraction,
        source=f"Ego4D videos: {Path(videos).name}",
        dtype=dtype,
        on_error=on_error,
        overwrite=overwrite,
        skipped=skipped,
    )


def _items(files: Mapping[str, Path], known: Mapping[str, Ego4DVideo]) -> list[VideoItem]:
    return [
        VideoItem(uid, str(path), left_eye=known[uid].stereo, duration_s=known[uid].duration_s)
        for uid, path in files.items()
    ]


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return [Path(options["videos"]), Path(options["ego4d_json"])]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return [Path(options["output"])]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    known = read_videos(options["ego4d_json"])
    items = _items(find_files(options["videos"], list(known)), known)
    return videos_cost_warning(items, options["output"], options["extraction"], options["dtype"], options["overwrite"])
