"""Whether encoding some videos is a matter of minutes, or a command of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from clep.extraction.finished import finished_videos, is_settled
from clep.extraction.items import VideoItem, chosen, fingerprints, first_of_each
from clep.extraction.settings import Extraction

LONG_VIDEO_BYTES = 5e9


def videos_cost_warning(
    items: Sequence[VideoItem],
    output: str | Path,
    extraction: Mapping[str, Any] | Extraction | None,
    dtype: str,
    overwrite: bool = False,
) -> str | None:
    """Say why encoding what a bank still lacks would take long, None where it would not.

    Gigabytes of video are hours of work. What is in the bank or in shards already counts for nothing.
    """
    left = videos_left(items, output, extraction, dtype, overwrite)
    size = sum(Path(item.path).stat().st_size for item in left if Path(item.path).exists())
    if size <= LONG_VIDEO_BYTES:
        return None
    return f"{size / 1e9:,.0f} GB of video are to be encoded{'' if torch.cuda.is_available() else ' without a GPU'}"


def videos_left(
    items: Sequence[VideoItem],
    output: str | Path,
    extraction: Mapping[str, Any] | Extraction | None,
    dtype: str,
    overwrite: bool = False,
) -> list[VideoItem]:
    """Return the videos that `extract` with these options would encode.

    Raises:
        InputError: an option is wrong.
    """
    settings = Extraction.of(extraction)
    items = chosen(first_of_each(items)[0], settings.ids, settings.limit)
    if overwrite:
        return items
    files = fingerprints(items)
    known = finished_videos(Path(output), settings.key(dtype), files)
    return [item for item in items if not is_settled(known.get(item.id), files[item.id], settings.retry_failed)]
