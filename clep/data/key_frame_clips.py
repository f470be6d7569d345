"""The pixels around key frames, decoded when they are asked for, and what training does to them and to their boxes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from clep.errors import InputError
from clep.video import KeyFrames, VideoReader
from clep.video.encoder import VideoEncoder
from clep.video.images import KeyFrameImages
from clep.video.suffixes import VIDEO_SUFFIXES
from clep.video.transforms import crop, flip, resize


@dataclass(frozen=True)
class KeyFrameClips:
    """Where the pixels around a key frame come from, as `RegionEncoder` reads them.

    Attributes:
        videos: folder of <video>.mp4 (or .mkv, …; there or in folders in it), or of a folder <video> with the key
            frames <second>.jpg.
        frames: of a clip.
        side_px: of the square pictures.
        clip_s: seconds that a clip covers.
        clip_start_s: second, as the annotations count, at which the video files start.
        scale: of training's random crops, the shortest side as a share of the frame's; 1 crops nothing.
        flip: chance that training mirrors a clip, with its boxes.
    """

    videos: str
    frames: int = 4
    side_px: int = 224
    clip_s: float | int = 2.0
    clip_start_s: float | int = 900.0
    scale: float | int = 0.8
    flip: float | int = 0.5

    def __post_init__(self) -> None:
        if self.frames < 1 or self.side_px < 1:
            raise InputError(f"data.clips: frames={self.frames} and side_px={self.side_px} must be at least 1")
        if not (0 < self.scale <= 1 and 0 <= self.flip <= 1):
            raise InputError(f"data.clips: scale={self.scale} must lie in (0, 1] and flip={self.flip} in [0, 1]")

    def to_dict(self) -> dict[str, Any]:
        """Return what decides the pixels of an evaluation, for a model to remember."""
        return {key: value for key, value in asdict(self).items() if key not in ("videos", "scale", "flip")}

    def fitting(self, encoder: VideoEncoder) -> "KeyFrameClips":
        """Return the same with the pictures that an encoder wants."""
        return replace(self, frames=encoder.clip.frames, side_px=encoder.clip.crop_px)

    def read(self, video: str, seconds: Sequence[float]) -> dict[float, UInt8[Tensor, "frames 3 side side"]]:
        """Decode the clips of some key frames of a video, whole frames squeezed into a square.

        Raises:
            InputError: there is no such video, it cannot be decoded, or it is over before one of the seconds.
        """
        path = _find(self.videos, video)
        start_s = 0.0 if path.is_dir() else float(self.clip_start_s)
        asked = {float(second) - start_s: second for second in sorted(seconds)}
        images = path.is_dir()
        reader: Any = KeyFrameImages(path, self.side_px) if images else VideoReader(path, self.side_px, threads=1)
        sampling = KeyFrames(tuple(asked), self.clip_s, trusts_length=True)
        found = {}
        for clip in reader.clips(sampling, self.frames):
            shown = dict(zip(clip.frame_numbers, clip.frames, strict=True))
            small = {number: resize(frame, self.side_px, self.side_px) for number, frame in shown.items()}
            found[asked[clip.second]] = torch.stack([small[number] for number in clip.frame_numbers])
        for second in seconds:
            if second not in found:
                raise InputError(
                    f"{path} has no frame at second {second:g}; data.clips.clip_start_s says at which it starts"
                )
        return found

    def augment(
        self,
        clip: UInt8[Tensor, "frames 3 side side"],
        boxes: Float32[Tensor, "boxes 4"],
        generator: torch.Generator,
    ) -> tuple[UInt8[Tensor, "frames 3 side side"], Float32[Tensor, "boxes 4"]]:
        """Cut a random part out of a clip and perhaps mirror it, and move the boxes with it.

        The part holds the middle of every box, so that none is lost; what is cut off a box is off.
        """
        clip, boxes = random_part(clip, boxes, float(self.scale), generator)
        if float(torch.rand((), generator=generator)) < self.flip:
            clip, boxes = flip(clip), mirrored(boxes)
        return clip, boxes


@cache
def _find(videos: str, video: str) -> Path:
    """Return the file of a video, or else the folder of its key frames; remembered, since each batch asks again."""
    folder = Path(videos)
    direct = (folder / f"{video}{suffix}" for suffix in VIDEO_SUFFIXES)
    if (path := next((path for path in direct if path.is_file()), None)) is not None:
        return path
    below = (path for path in sorted(folder.rglob(f"{escape(video)}.*")) if path.suffix.lower() in VIDEO_SUFFIXES)
    if (path := next((path for path in below if path.stem == video), None)) is not None:
        return path
    if (folder / video).is_dir():
        return folder / video
    raise InputError(f"{videos} has no {video}.mp4 and no folder {video} of key frames; see data.clips.videos")


def mirrored(boxes: Float32[Tensor, "boxes 4"]) -> Float32[Tensor, "boxes 4"]:
    """Return boxes where they are in the mirrored picture."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([1 - right, top, 1 - left, bottom], 1)


def random_part(
    clip: UInt8[Tensor, "frames 3 side side"],
    boxes: Float32[Tensor, "boxes 4"],
    scale: float,
    generator: torch.Generator,
) -> tuple[UInt8[Tensor, "frames 3 side side"], Float32[Tensor, "boxes 4"]]:
    """Cut out a part of random sides, `scale` of the picture's or more, at a random place, and resize it to the whole.

    Returns:
        The clip, and the boxes as fractions of the part.
    """
    side = clip.shape[-1]
    least = max(1, round(scale * side))
    spans = []
    for axis in (0, 1):
        middles = (boxes[:, axis] + boxes[:, axis + 2]) / 2 * side
        lowest, highest = (float(middles.min()), float(middles.max())) if len(boxes) else (side / 2, side / 2)
        length = int(torch.randint(least, side + 1, (), generator=generator))
        length = min(side, max(length, int(highest) - int(lowest) + 1))
        first = max(0, int(highest) + 1 - length)
        last = min(side - length, int(lowest))
        spans.append((int(torch.randint(first, max(first, last) + 1, (), generator=generator)), length))
    (left, width), (top, height) = spans
    part = resize(crop(clip, top, left, height, width), side, side)
    origin = torch.tensor([left, top, left, top]) / side
    size = torch.tensor([width, height, width, height]) / side
    return part, ((boxes - origin) / size).clamp(0, 1)
