"""Job: a folder or list of videos → one bank of the rows of a frozen encoder."""

from pathlib import Path
from typing import Any

from clep.extraction import Extraction, extract
from clep.extraction.items import Dtype, OnError
from clep.extraction.listing import list_videos, other_files
from clep.extraction.videos import output_files, videos_cost_warning


def run(
    *,
    videos: str | Path,
    output: str | Path,
    extraction: dict[str, Any] | Extraction,
    dtype: Dtype = "float16",
    on_error: OnError = "skip",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Encode videos and images with a frozen encoder into one feature bank.

    Continues where an interrupted run stopped; encodes only what is new or has changed.

    Args:
        videos: a folder of videos (ids are paths in it without suffix), a list file of lines name<TAB>path, or a csv
            with the columns id and path.
        output: the bank to write, e.g. features.h5; its ledger and coverage go beside it.
        extraction: how they are encoded, see its options below.
        dtype: number format of the bank; float16 halves its size.
        on_error: "skip" lists videos that cannot be used and goes on, "stop" ends at the first of them.
        overwrite: encode everything anew.

    Returns:
        The coverage: counts, and lists of the videos that are not in the bank, with the reason.

    Raises:
        InputError: nothing could be encoded, an option is wrong, or the disk is full.
    """
    source = f"videos: {Path(videos).name}"
    return extract(
        "videos",
        list_videos(videos),
        output,
        extraction,
        source=source,
        dtype=dtype,
        on_error=on_error,
        overwrite=overwrite,
        skipped=other_files(videos, output_files(Path(output))),
    )


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return [Path(options["videos"])]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return [Path(options["output"])]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    items = list_videos(options["videos"])
    return videos_cost_warning(items, options["output"], options["extraction"], options["dtype"], options["overwrite"])
