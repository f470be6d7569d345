"""Items and options of region extraction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32

from clep.bank import Clock
from clep.errors import InputError
from clep.extraction.listing import VideoItem
from clep.extraction.settings import Extraction
from clep.video import VideoEncoder
from clep.video.images import key_frame_files
from clep.video.regions import EncodedRegions


@dataclass(frozen=True)
class RegionItem(VideoItem):
    """A video, or a folder of its key frames, and the boxes in it.

    Attributes:
        boxes: boxes of each key frame, by its second in the annotations.
        boxes_digest: digest of the boxes, part of the fingerprint.
    """

    boxes: Mapping[float, Float32[np.ndarray, "boxes 4"]] = field(default_factory=dict, compare=False, repr=False)
    boxes_digest: str = ""

    def compute_fingerprint(self) -> str:
        """Digest the file, or the names and sizes of the folder's images, and the boxes; "" if there is no input."""
        if Path(self.path).is_dir():
            images = [(path.name, path.stat().st_size) for path in key_frame_files(self.path).values()]
            own = f"{len(images)}-{blake2b(repr(images).encode(), digest_size=8).hexdigest()}" if images else ""
        else:
            own = super().compute_fingerprint()
        return f"{own}-boxes{self.boxes_digest}" if own else ""


@dataclass(frozen=True)
class RegionExtraction(Extraction):
    """Options of region extraction: a clip around each key frame, the encoder's feature map, RoIAlign, pooling.

    Args:
        encoder: the frozen model, one of conf/encoder with a feature map.
        compute: where it runs, one of conf/compute: local or slurm.
        clip_s: seconds that the clip around a key frame covers. 0: the key frame alone.
        t0: where second 0 of a file is: "container", the start of its clock, or "first_frame".
        clip_start_s: second, as the annotations count, at which the video files start: 900 for AVA's 15-minute clips,
            0 for whole films. Folders of key frames are named by the annotations' own seconds.
        fit: "squeeze" whole frames into the encoder's square, or "whole" to keep their shape. null: whole for an
            encoder that takes any size, else squeeze. Nothing is cut off either way, so that boxes stay where they are.
        roi_size: cells across and down a box.
        roi_samples: bilinear samples across and down a cell.
        region_pool: "max" or "avg" over the cells of a box.
        clip_batch: clips (or frames, of an encoder that looks at each alone) that go through the encoder at once.
        precision: "float32", or on a GPU "bf16", which is faster and gives slightly other rows.
        compile: compile the encoder with torch.compile, where that works. Rows differ by rounding.
        channels_last: hold the weights of convolutions with the channels last, faster on many GPUs. Rows differ by
            rounding.
        device: e.g. cpu or cuda. null: a GPU if there is one.
        decode_threads: threads that decode one video. 0: as many as PyTorch has in that process.
        limit: encode only the first N videos.
        ids: encode these only: a list, or a text file with one id a line.
        shard: i/n, encode only part i of n (from 0), for machines that share nothing but the folder.
        n_shards: files that the work is cut into. null: one for each half hour of video, at least 8.
        retry_failed: try again also files that could not be decoded before and have not changed.

    Raises:
        InputError: a value is out of range.
    """

    clip_s: float | int = 2.0
    clip_start_s: float | int = 900.0
    fit: Literal["squeeze", "whole"] | None = None
    roi_size: int = 7
    roi_samples: int = 2
    region_pool: Literal["max", "avg"] = "max"

    shares_batches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.roi_size < 1 or self.roi_samples < 1:
            raise InputError(f"roi_size={self.roi_size} and roi_samples={self.roi_samples} must be at least 1")
        if not (isfinite(self.clip_s) and self.clip_s >= 0 and isfinite(self.clip_start_s) and self.clip_start_s >= 0):
            raise InputError(f"clip_s={self.clip_s} and clip_start_s={self.clip_start_s} must be seconds from 0")

    def clock(self) -> Clock:
        """Return the clock: the second of a row is that of its key frame."""
        return Clock.irregular(1.0)

    def encode(self, item: VideoItem, encoder: VideoEncoder, device: str, threads: int) -> Any:
        """Return the rows of a video's regions, computed while iterating."""
        assert isinstance(item, RegionItem)
        return EncodedRegions(
            item.path,
            encoder,
            item.boxes,
            start_s=0.0 if Path(item.path).is_dir() else self.clip_start_s,
            span_s=self.clip_s,
            how=self.fit,
            size=self.roi_size,
            samples=self.roi_samples,
            pool=self.region_pool,
            batch_size=self.clip_batch,
            device=device,
            precision=self.precision,
            threads=threads,
            t0=self.t0,
        )

    def cache_key_fields(self) -> dict[str, Any]:
        """Return the options that the rows depend on, beside those of `acceleration`, as JSON values."""
        names = ("clip_s", "t0", "clip_start_s", "fit", "roi_size", "roi_samples", "region_pool")
        values = {name: getattr(self, name) for name in (*names, "clip_batch", "precision")}
        return {"encoder": self.encoder, "regions": True, **values}
