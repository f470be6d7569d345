"""Job: clips and their videos → one bank with several rows a clip, one for each of its views."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Shaped
from torch import Tensor

from clep.bank import Clock
from clep.compute.threads import Background
from clep.errors import InputError
from clep.extraction.listing import VideoItem
from clep.extraction.settings import Crops, Extraction
from clep.preprocess.clip_films import find_clips
from clep.preprocess.job import config_group
from clep.preprocess.videos import VideosJob
from clep.video import VideoEncoder
from clep.video.batches import BatchEncoder, encode_in_batches
from clep.video.clips import walk_through
from clep.video.decoding import VideoFile
from clep.video.reader import SmallPictures

View = tuple[Shaped[Tensor, "one 3 side side"], ...]


@dataclass(frozen=True)
class ViewItem(VideoItem):
    """A clip that becomes several rows.

    Attributes:
        path: file of the clip, or of the video that it is a part of.
        start_s, end_s: seconds of the clip in the file; NaN for the whole file.
    """

    start_s: float = nan
    end_s: float = nan

    def compute_fingerprint(self) -> str:
        """Digest the file and the span; "" if the file cannot be read."""
        own = super().compute_fingerprint()
        return f"{own}-{self.start_s}-{self.end_s}" if own else ""


@dataclass(frozen=True)
class ViewExtraction(Extraction):
    """How clips become rows: several views in time of consecutive frames, each in one or more crops.

    A view in time has as many frames as the encoder takes, every `frame_stride`-th one. The views start at equal
    distances, the last one ends with the clip. A clip that is too short for one has a single view in time, whose
    missing frames are black, as in LaViLa's code.

    Args:
        encoder: the frozen model, one of conf/encoder, e.g. encoder=lavila encoder.weights=FILE encoder.frames=16.
        compute: where it runs, one of conf/compute: local or slurm.
        views_in_time: views at equal distances in a clip.
        frame_stride: frames from one frame of a view to the next.
        t0: where second 0 of a file is: "container", the start of its clock, or "first_frame".
        crops: crops of each view in time, a row each: "centre", "three" along the long side, or "ten".
        clip_batch: views that go through the encoder at once.
        precision: "float32", or on a GPU "bf16", which is faster and gives slightly other rows.
        compile: compile the encoder with torch.compile, where that works. Rows differ by rounding.
        channels_last: hold the weights of convolutions with the channels last, faster on many GPUs. Rows differ by
            rounding.
        device: e.g. cpu or cuda. null: a GPU if there is one.
        decode_threads: threads that decode one video. 0: as many as PyTorch has in that process.
        limit: encode only the first N clips.
        ids: encode these only: a list, or a text file with one id per line.
        shard: i/n, encode only part i of n (from 0), for machines that share nothing but the folder.
        n_shards: files that the work is cut into. null: one for each half hour of video, at least 8.
        retry_failed: try again also clips that could not be decoded before and whose files have not changed.

    Raises:
        InputError: a value is out of range.
    """

    views_in_time: int = 10
    frame_stride: int = 2
    crops: Crops = "three"

    shares_batches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("views_in_time", "frame_stride"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")

    def clock(self) -> Clock:
        """Return the clock: the second of a row is the start of its view in the clip."""
        return Clock.irregular(0.0)

    def encode(self, item: VideoItem, encoder: VideoEncoder, device: str, threads: int) -> "EncodedViews":
        """Return the rows of a clip's views, computed while iterating."""
        assert isinstance(item, ViewItem)
        return EncodedViews(item, encoder, self, device, threads)

    def cache_key_fields(self) -> dict[str, Any]:
        """Return the options that the rows depend on, beside those of `acceleration`, as JSON values."""
        names = ("views_in_time", "frame_stride", "t0", "crops", "clip_batch", "precision")
        return {"encoder": self.encoder, "views": True, **{name: getattr(self, name) for name in names}}


def view_starts(frames: int, length: int, views: int) -> Int64[np.ndarray, " views"]:
    """Return the first frame of each view of a clip, truncated; only 0 where the clip is shorter than a view.

    Args:
        frames: of the clip.
        length: of a view, from its first frame to one past its last.
        views: number of views.
    """
    return np.linspace(0, frames - length, views).astype(np.int64) if frames >= length else np.zeros(1, np.int64)


class EncodedViews:
    """Rows of the views of one clip, by view in time and then by crop, computed while iterating.

    Attributes:
        seconds: start of the view of each row, in seconds from the start of the clip; known once all rows were yielded.
        duration_s, ends_s: length of the clip; 0 until all rows were yielded.
        corrupt_packets: packets that could not be decoded completely; 0 until all rows were yielded.
        note: "", no remarks.
    """

    note = ""

    def __init__(
        self, item: ViewItem, encoder: VideoEncoder, settings: ViewExtraction, device: str, threads: int
    ) -> None:
        self._item, self._encoder, self._settings, self._threads = item, encoder, settings, threads
        self._batches = BatchEncoder(encoder, settings.crops, device, settings.precision)
        self._seconds: list[float] = []
        self.duration_s = 0.0
        self.corrupt_packets = 0

    @property
    def seconds(self) -> Float64[np.ndarray, " rows"]:
        """Start of the view of each row."""
        return np.asarray(self._seconds)

    @property
    def ends_s(self) -> float:
        """End of the clip, in the seconds of the rows."""
        return self.duration_s

    def __iter__(self) -> Iterator[Float32[np.ndarray, "one dim"]]:
        """Yield the row of each view.

        Raises:
            InputError: the file cannot be decoded, or ends before the clip starts.
        """
        self._encoder.to(self._batches.device).eval()
        with ExitStack() as during:
            start, at_once = during.enter_context(self._batches.compute_threads(self._batches.start))
            ahead = 2 * self._settings.clip_batch * at_once
            views = during.enter_context(closing(Background(self._views, ahead)))
            rows = during.enter_context(closing(encode_in_batches(views, self._settings.clip_batch, start, at_once)))
            for row in rows:
                if isinstance(row, Exception):
                    raise row
                assert isinstance(row, np.ndarray)  # there are no marks in the stream
                yield row[None]

    def _views(self) -> Generator[View, None, None]:
        settings, file = self._settings, VideoFile(self._item.path, self._threads)
        try:
            begun = walk_through(file, file.timeline(settings.t0))
            if begun is None:
                raise InputError(f"{file.path}: no frame can be decoded: fetch it again")
            walk, film_s = begun
            fps = 1 / file.usual_interval_s
            first, end = self._frames(film_s, fps)
            self.duration_s = (end - first) / fps
            length = self._encoder.clip.frames * settings.frame_stride
            prepare, resize = (
                self._batches.prepare,
                SmallPictures(self._batches.decoded_short_side_px, False, file.pixel_aspect),
            )
            shown: dict[int, Tensor] = {}
            for start in (first + view_starts(end - first, length, settings.views_in_time)).tolist():
                shown = {index: crops for index, crops in shown.items() if index >= start}
                chosen = range(start, min(start + length, end), settings.frame_stride)
                for index in chosen:
                    if index not in shown:
                        frame = walk.at((index + 0.5) / fps)
                        assert frame is not None
                        picture = resize(frame.picture)
                        shown[index] = prepare(picture)
                clip = [shown[index] for index in chosen]
                if len(clip) < self._encoder.clip.frames:
                    clip += [prepare(torch.zeros_like(picture))] * (self._encoder.clip.frames - len(clip))
                for crop in range(len(clip[0])):
                    self._seconds.append((start - first) / fps)
                    yield tuple(crops[crop : crop + 1] for crops in clip)
            self.corrupt_packets = file.corrupt_packets
        finally:
            file.close()

    def _frames(self, film_s: float, fps: float) -> tuple[int, int]:
        """Return the first frame of the clip and the one after its last."""
        total = max(round(film_s * fps), 1)
        if isnan(self._item.start_s):
            return 0, total
        first, end = round(self._item.start_s * fps), round(self._item.end_s * fps)
        if first >= total:
            raise InputError(
                f"{self._item.path} lasts {film_s:.1f} s, and the clip starts at {self._item.start_s:.1f} s: is it "
                f"the right video?"
            )
        return first, max(min(end, total), first + 1)


@dataclass(frozen=True, kw_only=True)
class ClipViews(VideosJob, job="clip_views"):
    """Clips and their videos → a bank with several rows per clip, one for each view, as EGTEA Gaze+ is evaluated.

    Rows are in order of time, and of one time in order of the crops. The clips may be files of their own, or spans of
    whole videos. An interrupted run is continued; only new and changed clips are encoded.

    Attributes:
        table: csv, tsv, parquet or jsonl with the column clip, and for spans of videos also video, start and end.
        videos: folder in which <video>.mp4 (or .mkv, …) is found, or the film <clip>.mp4 of each clip, also in
            subfolders.
        output: the bank to write; its ledger and coverage go beside it.
        columns: names of the table's columns where they differ, e.g. columns.clip=narration_id.
        extraction: how clips are encoded, see its options below.
    """

    table: str | Path = "${paths.data}/clips.csv"
    videos: str | Path = "${paths.data}/videos"
    output: str | Path = "${paths.out}/clip_views.h5"
    columns: Mapping[str, str | None] | None = None
    extraction: Mapping[str, Any] | ViewExtraction | None = field(
        default=None, metadata=config_group("extraction", "clip_views")
    )

    def inputs(self) -> list[Path]:
        """Return the table and the folder of videos."""
        return [Path(self.table), Path(self.videos)]

    def settings(self) -> ViewExtraction:
        """Return the options in `extraction`, checked."""
        return ViewExtraction.of(self.extraction)

    def items(self) -> Sequence[ViewItem]:
        """Return the clips whose file or video is found."""
        return self._items_and_skipped[0]

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and lists of the clips that are not in the bank, with the reason.

        Raises:
            InputError: the table cannot be read, no clip has a video, or nothing could be encoded.
        """
        items, skipped = self._items_and_skipped
        if not items:
            name, reason = next(iter(skipped.items()))
            raise InputError(f"{self.videos} has none of the {len(skipped)} clips of {self.table}; {name!r}: {reason}")
        if skipped and self.on_error == "stop":
            name, reason = next(iter(skipped.items()))
            raise InputError(f"clip {name!r}: {reason} (on_error=skip continues without it)")
        return self.encode(items, f"views of {Path(self.table).name}", skipped)

    @cached_property
    def _items_and_skipped(self) -> tuple[list[ViewItem], dict[str, str]]:
        clips, skipped = find_clips(self.table, self.columns, self.videos)
        items: list[ViewItem] = []
        for clip in clips:
            if clip.path.is_dir():
                skipped[clip.id] = f"{clip.path.name} is a folder of chunks or frames, which the job clips reads"
            else:
                length_s = clip.end - clip.start
                item = ViewItem(clip.id, str(clip.path), duration_s=length_s, start_s=clip.start, end_s=clip.end)
                items.append(item)
        return items, skipped
