"""Features of boxes: RoIAlign on the encoder's feature map, then pooling over the cells of each box."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from torch import Tensor
from torch.nn import functional as F

from clep.errors import InputError
from clep.video.batches import to_host
from clep.video.encode import EncodedVideo
from clep.video.encoder import VideoEncoder
from clep.video.images import KeyFrameImages
from clep.video.reader import VideoReader
from clep.video.sampling import KeyFrames
from clep.video.transforms import normalize, resize, resize_short_side


def roi_align(
    features: Float[Tensor, "maps channels rows columns"],
    boxes: Float[Tensor, "boxes 4"],
    map_of_box: Int64[Tensor, " boxes"],
    size: int = 7,
    samples: int = 2,
) -> Float[Tensor, "boxes channels size size"]:
    """Return a grid of `size` × `size` means for each box.

    A box is divided into equal cells; a cell is the mean of `samples` × `samples` bilinear samples at the centres of
    its equal parts. Values of the map are at the centres of its cells ("aligned" RoIAlign); outside of the map, border
    values are repeated. Coordinates are fractions of the frame, which are the same fractions of the map (`grid_sample`
    with align_corners=False), so no scale is needed. After He et al., "Mask R-CNN" (arXiv 1703.06870, section 3).

    Args:
        features: feature maps of whole frames.
        boxes: x1, y1, x2, y2 as fractions of the frame's width and height.
        map_of_box: index of each box's map.
        size: cells per box in each direction.
        samples: samples per cell in each direction.

    Raises:
        InputError: `size` or `samples` is below 1.
    """
    if size < 1 or samples < 1:
        raise InputError(f"RoIAlign needs a size and samples of at least 1, not {size} and {samples}")
    boxes = boxes.to(features.dtype)
    count = size * samples
    across, down = (_middles(boxes[:, axis], boxes[:, axis + 2], count) for axis in (0, 1))
    place = torch.stack([across[:, None].expand(-1, count, -1), down[:, :, None].expand(-1, -1, count)], dim=-1)
    sampled = F.grid_sample(features[map_of_box], 2 * place - 1, "bilinear", "border", align_corners=False)
    return F.avg_pool2d(sampled, samples)


def _middles(
    start: Float[Tensor, " boxes"], end: Float[Tensor, " boxes"], count: int
) -> Float[Tensor, "boxes {count}"]:
    """Return the centres of `count` equal parts of each span."""
    middles = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
    return start[:, None] + (end - start)[:, None] * middles


Pool = Literal["max", "avg"]
Fit = Literal["squeeze", "whole"]


def fit(
    frames: Shaped[Tensor, "*batch 3 height width"], encoder: VideoEncoder, how: Fit
) -> Shaped[Tensor, "*batch 3 new_height new_width"]:
    """Resize whole frames to the encoder's input size, without cropping, so that boxes keep their fractions.

    Args:
        frames: frames of any size.
        encoder: the encoder, with the side `clip.crop_px`.
        how: "squeeze" to the encoder's square; or "whole", for an encoder of `any_size`: keep the aspect ratio and
            resize the short side.
    """
    side = encoder.clip.crop_px
    return resize_short_side(frames, side) if how == "whole" else resize(frames, side, side)


def region_rows(
    features: Float[Tensor, "clips dim rows columns"],
    boxes: Float[Tensor, "boxes 4"],
    clip_of_box: Int64[Tensor, " boxes"],
    size: int = 7,
    samples: int = 2,
    pool: Pool = "max",
) -> Float[Tensor, "boxes dim"]:
    """Return a row for each box: RoIAlign on the features of its clip, then the maximum or mean over its cells.

    Args:
        features: feature maps, averaged over time as in the RoI head of SlowFast (arXiv 1812.03982).
        boxes: x1, y1, x2, y2 as fractions of the frame.
        clip_of_box: index of each box's clip.
        size, samples: see `roi_align`.
        pool: "max" or "avg" over the cells of a box.
    """
    cells = roi_align(features, boxes, clip_of_box, size, samples).flatten(2)
    return torch.amax(cells, 2) if pool == "max" else cells.mean(2)


class EncodedRegions:
    """Rows of a video's regions, computed at each iteration.

    Args:
        path: the video file, or a folder with an image for each key frame, see `KeyFrameImages`.
        encoder: an encoder with a feature map; moved to the device and put into evaluation mode.
        boxes: the boxes of each key frame, by its second in the annotations: `[boxes, 4]`, fractions of the frame.
        start_s: second of the annotations at second 0 of the file.
        span_s: seconds that the clip around a key frame covers.
        how: see `fit`; None is "whole" for an encoder of any size and "squeeze" for others.
        size, samples, pool: see `region_rows`.
        batch_size: clips per batch, or frames if the encoder is frame-wise.
        device, precision, threads, t0: see `encode_video`.

    Attributes:
        note: count of boxes without a row, because there is no frame or image at their second.
        n_rows, seconds, duration_s, corrupt_packets: as in `EncodedVideo`; seconds are those of the annotations.

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
        t0: str = "container",
    ) -> None:
        how = how or ("whole" if encoder.any_size else "squeeze")
        if how == "whole" and not encoder.any_size:
            raise InputError(
                f"fit=whole keeps the shape of the frames, but {encoder.name} needs squares of {encoder.clip.crop_px} "
                f"pixels; use fit=squeeze"
            )
        self._boxes, self._start_s = dict(sorted(boxes.items())), float(start_s)
        self._only_images = Path(path).is_dir()
        self._size, self._samples, self._pool = size, samples, pool
        # Seconds before the start of the file have no row, like those after its end.
        seconds = tuple(float(second) - self._start_s for second in self._boxes if second >= start_s)
        if not seconds:
            raise InputError(f"{path} starts at second {start_s:g}, after the last box; correct clip_start_s")
        self._maps = _Maps(path, encoder, KeyFrames(seconds, span_s), how, batch_size, device, precision, threads, t0)
        self._reset()

    def _reset(self) -> None:
        self.note, self.n_rows = "", 0
        self._seconds: list[float] = []

    @property
    def seconds(self) -> Float64[np.ndarray, " rows"]:
        """Second of each row yielded so far."""
        return np.array(self._seconds, np.float64)

    @property
    def duration_s(self) -> float:
        """End of the video in seconds; 0 until all rows were yielded."""
        return self._maps.duration_s

    @property
    def ends_s(self) -> float:
        """End of the video in seconds of the annotations; NaN for a folder of key frames."""
        return math.nan if self._only_images else self._start_s + self._maps.duration_s

    @property
    def corrupt_packets(self) -> int:
        """Packets that could not be decoded completely, and frames with impossible timestamps."""
        return self._maps.corrupt_packets

    def __iter__(self) -> Iterator[Float32[np.ndarray, "rows dim"]]:
        """Yield the rows of each key frame, in order of time, then of its boxes."""
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
        self.note = "; ".join(filter(None, (self._missed(), self._maps.note)))

    def _missed(self) -> str:
        there = set(self._seconds)
        gone = {second: len(boxes) for second, boxes in self._boxes.items() if second not in there}
        if not gone:
            return ""
        first = next(iter(gone))
        return f"{sum(gone.values())} boxes of {len(gone)} seconds have no frame, first at second {first:g}"


class _Maps(EncodedVideo):
    """The flattened feature map of each key frame's clip; `grid` holds its rows and columns."""

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
        t0: str,
    ) -> None:
        super().__init__(path, encoder, sampling, "centre", batch_size, device, precision, False, threads, t0)
        self._how: Fit = how

    def _reader(self) -> Any:
        if Path(self._path).is_dir():
            return KeyFrameImages(self._path, self._encoder.clip.crop_px)
        return VideoReader(self._path, self._encoder.clip.short_side_px, False, self._threads, self._t0)

    def start_batch(self, units: list[tuple[Tensor, ...]]) -> Callable[[], Float32[np.ndarray, "units dim"]]:
        spec = self._encoder.clip
        with torch.inference_mode(), self.batches.autocast():
            pixels = self.batches.to_device(
                [[fit(frame, self._encoder, self._how) for frame in unit] for unit in units]
            )
            features = self._encoder.spatial(normalize(pixels, spec.mean, spec.std)).float().mean(2)
        self.grid = (features.shape[2], features.shape[3])
        return to_host(features.flatten(1))
