"""Options of video extraction, shared by all video jobs (`conf/extraction`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from clep.bank import Clock
from clep.config.build import build_typed
from clep.config.check import check_call, check_config
from clep.config.targets import ANYTHING
from clep.errors import InputError
from clep.extraction.items import parse_part
from clep.extraction.listing import VideoItem
from clep.remote import is_remote
from clep.video import DenseWindows, Segments, VideoEncoder, encode_video
from clep.weights import local_weights

Crops = Literal["centre", "three", "ten"]
ExtractionT = TypeVar("ExtractionT", bound="Extraction")


@dataclass(frozen=True)
class Extraction:
    """Options of video extraction.

    Args:
        encoder: the frozen model, one of conf/encoder, e.g. encoder=efficientnet_lite0.
        compute: where it runs, one of conf/compute: local or slurm.
        sampling: "dense" sliding windows (Ego4D's rule), or "segments": the video in equal parts, the middle frames of
            each (TimeSformer's rule).
        window: frames of a dense window.
        stride: frames from one dense window to the next.
        rate: frames per second that window and stride count in, whatever the video's own rate.
        segments: rows per video with sampling=segments.
        t0: where second 0 of a video is: "container", the start of the file's clock (in players and annotations), or
            "first_frame", also where sound comes before the first picture.
        crops: "centre"; "three" or "ten" crops, whose rows are averaged.
        clip_batch: clips (or frames, of an encoder that looks at each alone) that go through the encoder at once.
        precision: "float32", or on a GPU "bf16", which is faster and gives slightly other rows.
        compile: compile the encoder with torch.compile, where that works. Rows differ by rounding.
        channels_last: hold the weights of convolutions with the channels last, faster on many GPUs. Rows differ by
            rounding.
        transform_on_device: resize and normalise full-size frames on the device, for published models, which otherwise
            do so in the decoding threads. Rows differ by rounding.
        device: e.g. cpu or cuda. null: a GPU if there is one.
        decode_threads: threads that decode one video. 0: as many as PyTorch has in that process.
        format: "bank", or "npy" to write one <id>.npy per video beside the bank too.
        limit: encode only the first N videos.
        ids: encode these only: a list, or a text file with one id per line.
        shard: i/n, encode only part i of n (from 0), for machines that share nothing but the folder.
        n_shards: files that the work is cut into. null: one for each half hour of video, at least 8.
        retry_failed: try again also files that could not be decoded before and have not changed.

    Raises:
        InputError: a value is out of range.

    Examples:
        >>> from clep.extraction import Extraction
        >>> encoder = {"_target_": "clep.video.encoders.EfficientNetLite0"}
        >>> options = Extraction(encoder, window=32, stride=16, rate=30)
        >>> print(options.clock())
        rows_per_second=1.875, row_seconds=1.06667
    """

    encoder: dict[str, Any]
    compute: dict[str, Any] | None = None
    sampling: Literal["dense", "segments"] = "dense"
    window: int = 32
    stride: int = 16
    rate: float | int = 30.0
    segments: int = 1
    t0: Literal["container", "first_frame"] = "container"
    crops: Crops = "centre"
    clip_batch: int = 8
    precision: Literal["float32", "bf16"] = "float32"
    compile: bool = False
    channels_last: bool = False
    transform_on_device: bool = False
    device: str | None = None
    decode_threads: int = 0
    format: Literal["bank", "npy"] = "bank"
    limit: int | None = None
    ids: list[str] | str | None = None
    shard: str | None = None
    n_shards: int | None = None
    retry_failed: bool = False

    shares_batches: ClassVar[bool] = True
    """Whether a batch may hold clips of several videos."""

    def __post_init__(self) -> None:
        for name in ("clip_batch", "segments", "window", "stride"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")
        if not (isfinite(self.rate) and self.rate > 0):
            raise InputError(f"rate={self.rate} must be a positive number of frames per second")
        if self.n_shards is not None and self.n_shards < 1:
            raise InputError(f"n_shards={self.n_shards} must be at least 1")
        parse_part(self.shard)
        if self.transform_on_device and not self.shares_batches:
            raise InputError("transform_on_device=true is for whole videos and spans only; leave it out")

    @classmethod
    def of(cls: "type[ExtractionT]", options: "Mapping[str, Any] | Extraction | None") -> "ExtractionT":
        """Read the options of a job's `extraction`.

        Raises:
            InputError: an option is unknown, has the wrong type or is out of range; or no encoder is named.
        """
        if isinstance(options, cls):
            return options
        if isinstance(options, Extraction):
            raise InputError(f"extraction is a {type(options).__name__}, but this job takes a {cls.__name__}")
        values = dict(options or {})
        if not values.get("encoder"):
            raise InputError("no encoder: choose one of conf/encoder, e.g. encoder=efficientnet_lite0 (offline)")
        check_call(cls, values, "extraction")
        check_config(values, "extraction", ANYTHING)
        return cls(**values)

    def windows(self) -> DenseWindows | Segments:
        """Return the sampling rule."""
        if self.sampling == "dense":
            return DenseWindows(self.window, self.stride, self.rate)
        return Segments(self.segments)

    def clock(self) -> Clock:
        """Return the clock of the bank that follows from the sampling rule."""
        windows = self.windows()
        if windows.rows_per_second is None:
            return Clock.irregular(float(windows.row_seconds))
        return Clock(float(windows.rows_per_second), float(windows.row_seconds))

    def encode(self, item: VideoItem, encoder: VideoEncoder, device: str, threads: int) -> Any:
        """Return the rows of a video, computed while iterating: an `EncodedVideo`, or an object with its attributes."""
        return encode_video(
            item.path,
            encoder,
            self.windows(),
            crops=self.crops,
            batch_size=self.clip_batch,
            device=device,
            precision=self.precision,
            left_eye=item.left_eye,
            threads=threads,
            t0=self.t0,
        )

    def make_compute(self) -> Any:
        """Build the object that runs the shards; without a config this process runs them."""
        return build_typed(self.compute or {"_target_": "clep.compute.Local"})

    def cache_key_fields(self) -> dict[str, Any]:
        """Return the options that the rows depend on, beside those of `acceleration`, as JSON values."""
        rule = {"window": self.window, "stride": self.stride, "rate": float(self.rate)}
        return {
            "encoder": self.encoder,
            "sampling": self.sampling,
            **(rule if self.sampling == "dense" else {"segments": self.segments}),
            "t0": self.t0,
            "crops": self.crops,
            "clip_batch": self.clip_batch,
            "precision": self.precision,
        }

    def acceleration(self) -> dict[str, bool]:
        """Return the options of `clep.video.acceleration.accelerate` that are on; each changes rows by rounding."""
        options = ("compile", "channels_last", "transform_on_device")
        return {name: True for name in options if getattr(self, name)}

    def key(self, dtype: str) -> str:
        """Digest the options that the rows depend on, and their dtype; all rows of a bank have the same key."""
        weights = self._remote_weights or _weights_on_disk(self.encoder)
        fields = self.cache_key_fields() | self.acceleration()
        text = json.dumps([fields, weights, dtype], sort_keys=True, default=str)
        return blake2b(text.encode(), digest_size=6).hexdigest()

    @cached_property
    def _remote_weights(self) -> list[tuple[str, str]]:
        """Name and version of the files of remote weights, so that replaced ones change the key.

        The store is asked once: workers get the answer with these options, since each of them needs the same key.
        """
        weights = str(self.encoder.get("weights", ""))
        path = Path(local_weights(weights)) if is_remote(weights) else None
        if path is None or not path.exists():
            return []
        files = sorted(path.glob("*")) if path.is_dir() else [path]
        return [(file.name, file.resolve().parent.name) for file in files]  # the cache keeps each version in a folder


def _weights_on_disk(encoder: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Return name, size and date of local weights, so that replaced weights change the key."""
    path = Path(str(encoder.get("weights", "")))
    if not encoder.get("weights") or not path.exists():
        return []
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
