"""One shard: videos through the encoder into a bank file of its own, whole or not at all."""

import errno
import json
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clep.bank import BankWriter
from clep.compute import Local, Stopped
from clep.config.build import build
from clep.errors import InputError
from clep.extraction.feature_packing import Dtype, OnError
from clep.extraction.finished import read_shard
from clep.extraction.items import VideoItem
from clep.extraction.ledger import Entry, Journal, write_ledger
from clep.extraction.settings import Extraction
from clep.video import VideoEncoder, encode_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardTask:
    """What one worker is to do.

    Attributes:
        path: bank file of the shard; `.jsonl` beside it is its ledger, `.journal` what is known while it is made.
        items: its videos, with their files' fingerprints.
        settings: how they are encoded.
        key: digest of what decides the rows.
        dtype: number format of the rows.
        source: words kept in the bank.
        on_error: "stop" ends the shard at the first video that cannot be used.
        stopped: file that tells the other shards of this run to end, since with on_error="stop" one failed.
    """

    path: Path
    items: tuple[VideoItem, ...]
    settings: Extraction
    key: str
    dtype: Dtype
    source: str
    on_error: OnError
    stopped: Path

    def ledger(self) -> Path:
        """Return where the shard's ledger lies once the shard is whole."""
        return self.path.with_suffix(".jsonl")

    def journal(self) -> Path:
        """Return where the shard's progress is told while it is made."""
        return self.path.with_suffix(".journal")

    def kept(self) -> list[Path]:
        """Return the ledgers of what attempts that were cut short had done, each beside its bank."""
        return sorted(self.path.parent.glob(f"{self.path.stem}-*.jsonl"))


def extract_shard(task: ShardTask) -> None:
    """Encode the videos of a shard and write its bank, then its ledger; a bank without a ledger counts for nothing.

    What is done when an attempt is cut short (told to end, out of memory, another shard failed) is kept as a bank of
    its own, so that the next attempt only has the rest to do: a time limit costs the video at hand.

    Raises:
        InputError: the encoder cannot be loaded, the disk is full, or with on_error="stop" a video cannot be used.
    """
    _Shard(task).run()


_PASSING = {errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT}


def _may_pass(error: BaseException) -> bool:
    """Whether an error lies with the system rather than the file, so that another run may find it gone."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _PASSING


class _NothingDone(Exception):
    pass


class _Shard:
    def __init__(self, task: ShardTask) -> None:
        self.task, self.settings = task, task.settings
        # A name that no other attempt has, not even that of a run which was killed while its cluster jobs went on.
        self.path = task.path.with_name(f"{task.path.stem}-{uuid.uuid4().hex[:8]}.h5")
        self.journal = Journal(task.journal())
        self.device = self.settings.device or _default_device()
        self.entries: list[Entry] = []

    def run(self) -> None:
        self.encoder = _loaded(json.dumps(self.settings.encoder, sort_keys=True), self.device)
        self.writer: BankWriter | None = None
        cut_short: BaseException | None = None
        with suppress(_NothingDone), ExitStack() as self.files:
            try:
                self._encode()
            except BaseException as error:
                if isinstance(error, InputError) and self._is_of_the_output(error):
                    raise
                cut_short = error
            if not any(entry.status == "done" for entry in self.entries):
                raise _NothingDone  # which leaves no bank: one without a video is none
        if cut_short is None:
            if self.path.exists():
                self.path.replace(self.task.path)
            write_ledger(self.task.ledger(), self.entries)
            return
        if self.entries:
            write_ledger(self.path.with_suffix(".jsonl"), self.entries)
        raise cut_short

    def _encode(self) -> None:
        left_out = self.journal.left_out()
        shards = [read_shard(ledger.with_suffix(".h5"), ledger, self.task.key) for ledger in self.task.kept()]
        kept = {one.entry.id: one.entry.file for shard in shards for one in shard if one.bank is not None}
        items = [item for item in self.task.items if kept.get(item.id) != item.file]
        videos = [item for item in items if not item.image]
        first = next((item for item in videos if item.id not in left_out), None)
        for item in videos:
            try:
                self._video(item, left_out.get(item.id))
            except (Stopped, KeyboardInterrupt) as error:
                out_of_time = isinstance(error, Stopped) and error.time_is_over
                self.journal.stopped_at(item.id, had_all_the_time=out_of_time and item is first)
                raise
        self._images([item for item in items if item.image])

    def _video(self, item: VideoItem, left_out: str | None) -> None:
        started = time.perf_counter()
        if self.task.stopped.exists():
            raise InputError("ended, since another shard failed")
        if left_out is not None:
            self._failed(item, left_out, started, final=False)
            return
        self.journal.begins(item.id)
        try:
            # Workers that share a machine share its cores: each decodes with as many threads as it computes with.
            threads = self.settings.decode_threads or torch.get_num_threads()
            encoded = self.settings.encode(item, self.encoder, self.device, threads)
            self._write(item, iter(encoded), encoded)
        except InputError as error:
            if self._is_of_the_output(error):
                raise
            self._failed(item, str(error), started, final=not _may_pass(error))
            return
        except Exception as error:
            if isinstance(error, MemoryError | torch.AcceleratorError | torch.OutOfMemoryError):
                raise  # what follows on this device would fail too; another attempt starts afresh
            logger.exception("video %s", item.id)
            self._failed(item, f"{type(error).__name__}: {error}", started, final=False)
            return
        self._done(item, encoded.n_rows, encoded.duration_s, started, encoded.corrupt_packets, encoded.note)

    def _is_of_the_output(self, error: InputError) -> bool:
        return isinstance(error.__cause__, OSError | RuntimeError) and str(self.path) in str(error)

    def _write(self, item: VideoItem, blocks: Iterator[np.ndarray], encoded) -> None:
        writer = self._opened()
        if self.settings.clock().rows_per_second is not None:
            writer.add(item.id, blocks, duration_s=lambda: encoded.duration_s)
            return
        rows = np.concatenate(list(blocks))  # few: as many as there are segments or regions
        writer.add(item.id, rows, encoded.seconds, encoded.ends_s)

    def _images(self, items: Sequence[VideoItem]) -> None:
        if not items:
            return
        started = time.perf_counter()
        results = encode_images(
            [item.path for item in items],
            self.encoder,
            crops=self.settings.crops,
            batch_size=self.settings.clip_batch,
            device=self.device,
            precision=self.settings.precision,
        )
        irregular = self.settings.clock().rows_per_second is None
        for item, row in zip(items, results, strict=True):
            if isinstance(row, InputError):
                self._failed(item, str(row), started)
            else:
                self._opened().add(item.id, row[None], np.zeros(1) if irregular else None)
                self._done(item, 1, None, started, 0)
            started = time.perf_counter()

    def _opened(self) -> BankWriter:
        """Return the writer; it waits for the first video, since a bank without one is none."""
        if self.writer is None:
            self.writer = self.files.enter_context(
                BankWriter(
                    self.path,
                    self.encoder.dim,
                    self.settings.clock(),
                    self.task.dtype,
                    self.encoder.name,
                    self.task.source,
                )
            )
        return self.writer

    def _done(
        self,
        item: VideoItem,
        rows: int,
        video_s: float | None,
        started: float,
        corrupt_packets: int,
        note: str = "",
    ) -> None:
        seconds = round(time.perf_counter() - started, 3)
        if not note and video_s is not None and video_s < 0.9 * item.duration_s - 1.0:
            note = f"only {video_s:.1f} s of the {item.duration_s:.1f} s that it should last; cut off?"
        self._note(Entry(item.id, "done", note, rows, video_s, seconds, corrupt_packets, item.file, self.task.key))

    def _failed(self, item: VideoItem, reason: str, started: float, final: bool = True) -> None:
        if self.task.on_error == "stop":
            self.task.stopped.touch()
            raise InputError(f"video {item.id!r}: {reason} (on_error=skip goes on without it)")
        seconds = round(time.perf_counter() - started, 3)
        entry = Entry(item.id, "failed", reason, seconds=seconds, file=item.file, settings=self.task.key, final=final)
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.journal.is_through(entry)


@lru_cache(maxsize=1)
def _loaded(config: str, device: str) -> VideoEncoder:
    """Build an encoder once a process, however many shards that takes."""
    encoder = build(json.loads(config))
    if not isinstance(encoder, VideoEncoder):
        raise InputError(f"encoder: {type(encoder).__name__} is not a video encoder (clep.video.VideoEncoder)")
    try:
        return encoder.to(device)
    except (RuntimeError, AssertionError) as error:  # what PyTorch says of a device that is not there
        raise InputError(f"device={device!r} cannot be used: {str(error).splitlines()[0]}") from error


def check_encoder(settings: Extraction, compute: Any) -> None:
    """Build the encoder once here, so that what is wrong with it is said once and not by every shard.

    Raises:
        InputError: it cannot be loaded, or the device is not one that the workers have.
    """
    local = isinstance(compute, Local)
    device = settings.device or "cpu"
    if local and compute.processes not in (None, 1) and ":" in device:
        raise InputError(f"device={device!r} with several processes: leave it null, each then has a GPU of its own")
    if settings.precision == "bf16" and local and not (settings.device or _default_device()).startswith("cuda"):
        raise InputError("precision=bf16 needs a GPU; on a CPU rows are float32: precision=float32")
    here = settings.device or _default_device() if local and compute.processes in (None, 1) else "cpu"
    _loaded(json.dumps(settings.encoder, sort_keys=True), here)


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
