"""Whether encoding some videos is a matter of minutes, or a command of its own."""

from collections.abc import Iterable
from pathlib import Path

import torch

LONG_VIDEO_BYTES = 5e9


def why_long_videos(files: Iterable[Path]) -> str | None:
    """Say why encoding these files would take long, None where it would not: gigabytes of video are hours of work."""
    size = sum(path.stat().st_size for path in files if path.exists())
    if size <= LONG_VIDEO_BYTES:
        return None
    return f"{size / 1e9:,.0f} GB of video are to be encoded{'' if torch.cuda.is_available() else ' without a GPU'}"
