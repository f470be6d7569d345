"""Single frames of a video as they are shown, for pages and pictures."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from clep.errors import InputError
from clep.video.reader import VideoReader
from clep.video.sampling import KeyFrames


def frames_at(
    path: str | Path, seconds: Sequence[float], height: int = 144, t0: str = "container", threads: int = 1
) -> list[UInt8[Tensor, "3 height width"] | None]:
    """Return the frame on screen at each second, upright RGB of one height.

    Rotation, mirroring and the pixel aspect ratio are applied, as players do. Frames far apart are sought; the file is
    not read to its end.

    Args:
        path: the video file.
        seconds: in any order, repeated or not.
        height: of the frames in pixels.
        t0: where second 0 is, see `VideoReader`.
        threads: of the decoder.

    Returns:
        One frame a second; None for a second after the end of the video.

    Raises:
        InputError: the file cannot be decoded, ends before the first of the seconds, or a value is out of range.

    Examples:
        >>> from clep.video import frames_at
        >>> frames = frames_at("kitchen.mp4", [0.5, 3.0, 9.0], height=32)  # the film ends at 4 s
        >>> [None if frame is None else tuple(frame.shape) for frame in frames]
        [(3, 32, 48), (3, 32, 48), None]
    """
    if height < 1:
        raise InputError(f"height={height} must be at least 1 pixel")
    wanted = tuple(sorted({float(second) for second in seconds}))
    if not wanted:
        return []
    reader = VideoReader(path, None, threads=threads, t0=t0, height_px=height)
    shown = {clip.second: clip.frames[0] for clip in reader.clips(KeyFrames(wanted, 0.0, trusts_length=True), 1)}
    return [shown.get(float(second)) for second in seconds]
