"""Clips around key frames, decoded on demand, and their augmentation together with boxes."""

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
    """Source of the clips around key frames, the input of `RegionEncoder`.

    Attributes:
        videos: folder with <video>.mp4 (or .mkv, …), also in subfolders, or with folders <video> of key frames
            <second>.jpg.
        frames: frames per clip.
        side_px: side of the square frames.
        clip_s: length of a clip in seconds.
        clip_start_s: the annotations' second at which the video files start.
        scale: smallest side of a random crop in training, as a fraction of the frame's; 1 for no cropping.
        flip: probability of a horizontal flip in training, with the boxes.

    Raises:
        InputError: a value is out of range.

    Examples:
        >>> from clep.data import KeyFrameClips
        >>> clips = KeyFrameClips(videos=".", frames=4, side_px=32, clip_start_s=900.0)
        >>> found = clips.read("kitchen", [901.0, 903.0])
        >>> {second: tuple(clip.shape) for second, clip in found.items()}
        {901.0: (4, 3, 32, 32), 903.0: (4, 3, 32, 32)}
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
        """Return the settings that determine the pixels in evaluation, for a saved model."""
        return {key: value for key, value in asdict(self).items() if key not in ("videos", "scale", "flip")}

    def fitting(self, encoder: VideoEncoder) -> "KeyFrameClips":
        """Return the same source with the frames and size of an encoder."""
        return replace(self, frames=encoder.clip.frames, side_px=encoder.clip.crop_px)

    def read(self, video: str, seconds: Sequence[float]) -> dict[float, UInt8[Tensor, "frames 3 side side"]]:
        """Decode the clips of some key frames of a video, with whole frames resized to a square.

        Raises:
            InputError: there is no such video, it cannot be decoded, or it ends before one of the seconds.
        """
        path = _find(self.videos, video)
        start_s = 0.0 if path.is_dir() else float(self.clip_start_s)
        by_file_second = {float(second) - start_s: second for second in sorted(seconds)}
        images = path.is_dir()
        reader: Any = KeyFrameImages(path, self.side_px) if images else VideoReader(path, self.side_px, threads=1)
        sampling = KeyFrames(tuple(by_file_second), self.clip_s, trusts_length=True)
        found = {}
        for clip in reader.clips(sampling, self.frames):
            shown = dict(zip(clip.frame_indices, clip.frames, strict=True))
            small = {number: resize(frame, self.side_px, self.side_px) for number, frame in shown.items()}
            found[by_file_second[clip.second]] = torch.stack([small[number] for number in clip.frame_indices])
        for second in seconds:
            if second not in found:
                raise InputError(
                    f"{path} has no frame at second {second:g}; check data.clips.clip_start_s, where files start"
                )
        return found

    def augment(
        self,
        clip: UInt8[Tensor, "frames 3 side side"],
        boxes: Float32[Tensor, "boxes 4"],
        generator: torch.Generator,
    ) -> tuple[UInt8[Tensor, "frames 3 side side"], Float32[Tensor, "boxes 4"]]:
        """Crop a clip at random and flip it with probability `flip`, together with its boxes.

        The crop contains the centre of every box, so that none is lost; boxes are clipped to it.
        """
        clip, boxes = random_crop(clip, boxes, float(self.scale), generator)
        if float(torch.rand((), generator=generator)) < self.flip:
            clip, boxes = flip(clip), flipped(boxes)
        return clip, boxes


@cache
def _find(videos: str, video: str) -> Path:
    """Return the file of a video, or the folder of its key frames; cached, since each batch needs it."""
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


def flipped(boxes: Float32[Tensor, "boxes 4"]) -> Float32[Tensor, "boxes 4"]:
    """Return the boxes of the horizontally flipped frame."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([1 - right, top, 1 - left, bottom], 1)


def random_crop(
    clip: UInt8[Tensor, "frames 3 side side"],
    boxes: Float32[Tensor, "boxes 4"],
    scale: float,
    generator: torch.Generator,
) -> tuple[UInt8[Tensor, "frames 3 side side"], Float32[Tensor, "boxes 4"]]:
    """Crop a random rectangle, with sides of at least `scale` of the frame's, and resize it to the whole frame.

    Returns:
        The clip, and the boxes as fractions of the crop.
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
