"""Frames of moments as data URIs, where there are video files."""

import base64
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clep.errors import InputError
from clep.video.suffixes import VIDEO_SUFFIXES

log = logging.getLogger(__name__)

HEIGHT_PX = 84
MAX_BYTES = 4_000_000
"""Of all frames of a page; the page has a limit of 8 MB."""


class Frames:
    """Frames of videos by their ids.

    Args:
        folders: where the videos are, as `<id>` with the suffix of a video.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = [Path(folder) for folder in folders if Path(folder).is_dir()]
        self.bytes, self.unreadable = 0, 0
        self._made: dict[tuple[str, float], str | None] = {}

    def strip(self, video: str, start_s: float, end_s: float, count: int) -> list[str]:
        """Return `count` frames, evenly spread over a span, as data URIs; none where there is no such video."""
        path = self.find(video)
        if path is None or self.bytes > MAX_BYTES:
            return []
        length = max(end_s - start_s, 0.0)
        seconds = [max(0.0, start_s + length * (part + 0.5) / count) for part in range(count)]
        missing = [second for second in seconds if (video, second) not in self._made]
        if missing:
            try:
                self._make(video, path, missing)
            except (InputError, ImportError, OSError) as error:
                self.unreadable += 1
                log.debug("%s", error)
                self._made |= {(video, second): None for second in missing}
        return [uri for second in seconds if (uri := self._made[video, second]) is not None]

    def find(self, video: str) -> Path | None:
        """Return the file of a video; never one outside of the folders."""
        if not video or video != Path(video).name:
            return None
        candidates = (folder / f"{video}{suffix}" for folder in self.folders for suffix in ("", *VIDEO_SUFFIXES))
        return next((path for path in candidates if path.is_file()), None)

    def _make(self, video: str, path: Path, seconds: Sequence[float]) -> None:
        from PIL import Image

        from clep.video import frames_at

        for second, frame in zip(seconds, frames_at(path, seconds, HEIGHT_PX), strict=True):
            if frame is None:
                self._made[video, second] = None
                continue
            file = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).numpy())).save(file, "JPEG", quality=72)
            uri = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
            self._made[video, second] = uri
            self.bytes += len(uri)
