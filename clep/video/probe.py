"""What the header of a video file says, without decoding it."""

from math import nan
from pathlib import Path

from clep.errors import InputError
from clep.video.video_file import pyav


def expected_seconds(path: str | Path) -> float:
    """Return the seconds that a video file claims to last, NaN where it says nothing or cannot be opened.

    A guess at the cost of decoding it: how long it lasts shows only then.
    """
    av = pyav()
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            return container.duration / 1e6 if container.duration else nan
    except (av.FFmpegError, OSError, ValueError, InputError):
        return nan
