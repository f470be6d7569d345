"""From key frames of a video and boxes in them to rows: a row a box, several a second."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from clep.errors import InputError
from clep.video.encode import EncodedVideo, to_host
from clep.video.encoder import VideoEncoder
from clep.video.key_frame_images import KeyFrameImages
from clep.video.regions import Fit, Pool, fit, region_rows
from clep.video.sampling import KeyFrames
from clep.video.transforms import normalize


class EncodedRegions:
    """The rows of a video's regions, computed while iterating; iterating again computes them again.

    Args:
        path: of the video file, or of a folder with an image for each key frame, see `KeyFrameImages`.
        encoder: with features of places; is moved to the device and put into evaluation mode.
        boxes: of each key frame, by its second as the annotations count it: `[boxes, 4]`, fractions of the frame.
        start_s: second, as the annotations count, of the video's first frame.
        span_s: seconds that the clip around a key frame covers.
        how: see `fit`; None is "whole" for an encoder of any size and "squeeze" for others.
        size, samples, pool: see `region_rows`.
        batch_size: clips a batch; frames, where the encoder is frame-wise.
        device, precision, threads: see `encode_video`.

    Attributes:
        note: how many boxes have no row, since the video or an image is not there at their second.
        n_rows, seconds, duration_s, corrupt_packets: as of `EncodedVideo`; the second is that of the annotations.

    Raises:
        InputError: an unknown setting or device, or `how="whole"` with an encoder of one size.
    """

    def __init__(
        self,
        path: str | Path,
        encoder: VideoEncoder,
        boxes: Mapping[float, Float32[np.ndarray, "boxes 4"]],
        *,
        start_s: float | int = 0.0,
        span_s: float | int = 2.0,
        how: Fit | None = None,
        size: int = 7,
        samples: int = 2,
        pool: Pool = "max",
        batch_size: int = 8,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        threads: int = 0,
    ) -> None:
        how = how or ("whole" if encoder.any_size else "squeeze")
        if how == "whole" and not encoder.any_size:
            raise InputError(
                f"fit=whole gives pictures of the frames' own shape, but {encoder.name} takes squares of "
                f"{encoder.clip.crop_px} pixels; use fit=squeeze"
            )
        self._boxes, self._start_s = dict(sorted(boxes.items())), float(start_s)
        self._only_images = Path(path).is_dir()
        self._size, self._samples, self._pool = size, samples, pool
        # What lies before the first frame has no row, as what lies after the last has none.
        seconds = tuple(float(second) - self._start_s for second in self._boxes if second >= start_s)
        if not seconds:
            raise InputError(
                f"{path} starts at second {start_s:g}, after the last box (clip_start_s says where it starts)"
            )
        self._maps = _Maps(path, encoder, KeyFrames(seconds, span_s), how, batch_size, device, precision, threads)
        self._reset()

    def _reset(self) -> None:
        self.note, self.n_rows = "", 0
        self._seconds: list[float] = []

    @property
    def seconds(self) -> Float64[np.ndarray, " rows"]:
        """The second of each row given so far."""
        return np.array(self._seconds, np.float64)

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame of the video to the end of the last one; 0 until all rows were given."""
        return self._maps.duration_s

    @property
    def ends_s(self) -> float:
        """The second, as the annotations count, at which the video ends; NaN where there are only key frames."""
        return math.nan if self._only_images else self._start_s + self._maps.duration_s

    @property
    def corrupt_packets(self) -> int:
        """Packets that could not be decoded whole, and frames whose timestamp cannot be true."""
        return self._maps.corrupt_packets

    def __iter__(self) -> Iterator[Float32[np.ndarray, "rows dim"]]:
        """Yield the rows of each key frame, in order of time and of its boxes."""
        self._reset()
        by_second = {second - self._start_s: second for second in self._boxes}
        given = 0
        for block in self._maps:
            found = self._maps.seconds
            assert found is not None
            for features, at in zip(block, found[given:].tolist(), strict=True):
                second = by_second[at]
                boxes = torch.from_numpy(self._boxes[second])
                maps = torch.from_numpy(features).view(1, -1, *self._maps.grid)
                places = torch.zeros(len(boxes), dtype=torch.int64)
                rows = region_rows(maps, boxes, places, self._size, self._samples, self._pool).numpy()
                self._seconds += [second] * len(rows)
                self.n_rows += len(rows)
                yield rows
            given = len(found)
        self.note = self._missed()

    def _missed(self) -> str:
        there = set(self._seconds)
        gone = {second: len(boxes) for second, boxes in self._boxes.items() if second not in there}
        if not gone:
            return ""
        first = next(iter(gone))
        return f"{sum(gone.values())} boxes of {len(gone)} seconds have no frame, first at second {first:g}"


class _Maps(EncodedVideo):
    """The features of places of each key frame's clip, flat: `grid` are its rows and columns."""

    grid: tuple[int, int]

    def __init__(
        self,
        path: str | Path,
        encoder: VideoEncoder,
        sampling: KeyFrames,
        how: Fit,
        batch_size: int,
        device: str | torch.device,
        precision: str,
        threads: int,
    ) -> None:
        super().__init__(path, encoder, sampling, "centre", batch_size, device, precision, False, threads)
        self._how: Fit = how

    def _reader(self) -> Any:
        if Path(self._path).is_dir():
            return KeyFrameImages(self._path, self._encoder.clip.crop_px)
        return super()._reader()

    def _encode(self, units: list[tuple[Tensor, ...]]) -> Callable[[], Float32[np.ndarray, "units dim"]]:
        spec = self._encoder.clip
        frames = torch.stack([fit(frame, self._encoder, self._how) for unit in units for frame in unit])
        pixels = frames.to(self._device).unflatten(0, (len(units), -1))
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=self._bf16):
            features = self._encoder.spatial(normalize(pixels, spec.mean, spec.std)).float().mean(2)
        self.grid = (features.shape[2], features.shape[3])
        return to_host(features.flatten(1))
