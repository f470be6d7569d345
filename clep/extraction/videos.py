"""Videos and images → rows of a frozen encoder → one bank, with a ledger, a coverage and optional `.npy` files."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from clep.bank import Clock, FeatureBank
from clep.compute import Local
from clep.config.build import build_typed
from clep.errors import InputError
from clep.extraction.coverage import Coverage, coverage_path
from clep.extraction.engine import Engine, ShardSize, first_reason, is_settled
from clep.extraction.items import (
    Dtype,
    EncodedItem,
    Item,
    OnError,
    RowFacts,
    RowSource,
    parse_part,
    part_of,
    printable,
    select_items,
)
from clep.extraction.ledger import Entry, ledger_path
from clep.extraction.listing import VideoItem, fingerprints, unique_items, with_durations
from clep.extraction.settings import Extraction
from clep.extraction.shard import Finished, loaded_encoder
from clep.extraction.spans import SpanExtraction, SpanItem, encode_spans
from clep.files import atomic_path
from clep.remote import size_of
from clep.video import VideoEncoder, encode_images
from clep.video.acceleration import accelerate
from clep.video.encode import encode_together

logger = logging.getLogger(__name__)

LARGE_VIDEO_BYTES = 5e9
_SHARDS = ShardSize(cost=1800.0, unknown_cost=60.0, fewest=8)
_MAX_NAME_BYTES = 200
_SHORT_S = 60.0  # of a video that one thread decodes while others decode the next ones


def load_video_encoder(config: Mapping[str, Any], device: str) -> VideoEncoder:
    """Build a video encoder on a device.

    Raises:
        InputError: the config builds something else, the weights are missing, or the device is missing.
    """
    encoder = build_typed(dict(config))
    if not isinstance(encoder, VideoEncoder):
        raise InputError(
            f"encoder: {type(encoder).__name__} is not a clep.video.VideoEncoder; choose one of conf/encoder"
        )
    try:
        return encoder.to(device)
    except (RuntimeError, AssertionError) as error:  # PyTorch's errors for a missing device
        raise InputError(f"device={device!r} cannot be used: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True)
class VideoRows(RowSource):
    """Encodes videos and images by the options of a job."""

    settings: Extraction
    dtype: Dtype
    noun: ClassVar[str] = "videos"

    @cached_property
    def key(self) -> str:
        """Digest of all settings that the rows depend on."""
        return self.settings.key(self.dtype)

    def bank_clock(self) -> Clock:
        """Return the clock that follows from the sampling rule."""
        return self.settings.clock()

    def load(self) -> "VideoItemEncoder":
        """Load the video encoder on the device of this process."""
        device = self.settings.device or _default_device()
        return VideoItemEncoder(self._encoder(device), self.settings, device)

    def _encoder(self, device: str) -> VideoEncoder:
        encoder = load_video_encoder(self.settings.encoder, device)
        accelerate(encoder, **self.settings.acceleration())
        return encoder

    def check(self, compute: Any) -> None:
        """Load the encoder in this process first, so that an error is raised once instead of by every shard.

        Raises:
            InputError: it cannot be loaded, or the workers cannot use the device.
        """
        here = isinstance(compute, Local) and compute.processes in (None, 1)
        device = self.settings.device or _default_device()
        if isinstance(compute, Local):
            if not here and ":" in device:
                raise InputError(f"device={device!r} with several processes: use device=null, one GPU per process")
            if self.settings.precision == "bf16" and not device.startswith("cuda"):
                raise InputError("precision=bf16 needs a GPU; on a CPU rows are float32: precision=float32")
            if (
                self.settings.precision == "bf16"
                and torch.cuda.is_available()
                and not torch.cuda.is_bf16_supported(False)
            ):
                raise InputError("precision=bf16: the GPU has no bfloat16 arithmetic; use precision=float32")
        if here:
            loaded_encoder(self)
        else:
            self._encoder("cpu")


class VideoItemEncoder:
    """Encodes spans, videos and images, each kind in batches across its items; see `RowEncoder`.

    Args:
        encoder: the encoder, on its device.
        settings: options of the extraction.
        device: device of the encoder.
    """

    def __init__(self, encoder: VideoEncoder, settings: Extraction, device: str) -> None:
        self.encoder, self.settings, self.device = encoder, settings, device
        self.name, self.dim = encoder.name, encoder.dim

    def encode(self, items: Sequence[Item], begin: Callable[[Item], None]) -> Iterator[EncodedItem]:
        """Yield the rows of each span, video and image."""
        spans = [item for item in items if isinstance(item, SpanItem)]
        if spans and isinstance(self.settings, SpanExtraction):
            yield from encode_spans(spans, self.encoder, self.settings, self.device, begin)
        videos = [item for item in items if isinstance(item, VideoItem) and not isinstance(item, SpanItem)]
        yield from self._videos([item for item in videos if not item.image], begin)
        yield from self._images([item for item in videos if item.image], begin)

    def _videos(self, items: Sequence[VideoItem], begin: Callable[[Item], None]) -> Iterator[EncodedItem]:
        # Workers on one machine share its cores, so each decodes with its number of compute threads: one thread for
        # each of several short videos, or all threads for one long video.
        threads = self.settings.decode_threads or torch.get_num_threads()
        if not self.settings.shares_batches:
            for item in items:
                yield self._alone(item, threads)
            return
        decoders = threads if all(item.duration_s <= _SHORT_S for item in items) else 1
        each = max(1, threads // decoders)
        videos = [self.settings.encode(item, self.encoder, self.device, each) for item in items]
        encoded = encode_together(videos, decoders, lambda index: begin(items[index]))
        for item, (video, blocks) in zip(items, encoded, strict=True):
            yield EncodedItem(item, blocks, partial(self._facts, item, video))

    def _alone(self, item: VideoItem, threads: int) -> EncodedItem:
        made: list[Any] = []

        def blocks() -> Iterator[np.ndarray]:
            made.append(self.settings.encode(item, self.encoder, self.device, threads))
            yield from made[0]

        return EncodedItem(item, blocks(), lambda: self._facts(item, made[0]))

    def _facts(self, item: VideoItem, encoded: Any) -> RowFacts:
        regular = self.settings.clock().rows_per_second is not None
        return RowFacts(
            seconds=encoded.seconds,
            duration_s=encoded.duration_s if regular else encoded.ends_s,
            video_s=encoded.duration_s,
            corrupt_packets=encoded.corrupt_packets,
            note=encoded.note or _cut_off_note(encoded.duration_s, item.duration_s),
        )

    def _images(self, items: Sequence[VideoItem], begin: Callable[[Item], None]) -> Iterator[EncodedItem]:
        if not items:
            return
        irregular = self.settings.clock().rows_per_second is None
        rows = encode_images(
            [item.path for item in items],
            self.encoder,
            crops=self.settings.crops,
            batch_size=self.settings.clip_batch,
            device=self.device,
            precision=self.settings.precision,
            begin=lambda index: begin(items[index]),
        )

        def blocks() -> Iterator[np.ndarray]:
            row = next(rows)
            if isinstance(row, Exception):
                raise row
            yield row[None]

        facts = RowFacts(seconds=np.zeros(1) if irregular else None)
        for item in items:
            yield EncodedItem(item, blocks(), lambda: facts)


def extract(
    job: str,
    items: Iterable[VideoItem],
    output: str | Path,
    extraction: Extraction | Mapping[str, Any] | None,
    *,
    source: str,
    dtype: Dtype = "float16",
    on_error: OnError = "skip",
    overwrite: bool = False,
    skipped: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Encode videos and images with a frozen encoder into one bank, in the order of their ids.

    Only missing videos are encoded: a video with unchanged file and settings is taken from the bank or from a shard of
    an earlier run, and a file that could not be decoded is skipped until it changes. Videos of the bank whose files no
    longer exist, or that are not selected, stay in it.

    Args:
        job: name of the job, for the coverage.
        items: the videos; the first of several with one id is used.
        output: the bank to write, `.h5`; `.ledger.jsonl` and `.coverage.json` are written beside it.
        extraction: options of the extraction.
        source: where the videos come from, stored in the bank.
        dtype: dtype of the bank.
        on_error: "skip" lists an unusable video and continues, "stop" raises at the first.
        overwrite: encode all selected videos again; the bank then holds only these.
        skipped: reason by id of videos that have nothing to decode; recorded in the ledger.

    Returns:
        The coverage, with the reason of every video that is not in the bank. With `shard=i/n` and other parts missing:
        counts of this part, and the count of missing videos as "waiting_for".

    Raises:
        InputError: no video could be encoded, an option is invalid, the disk is full, or with on_error="stop" a video
            is unusable.
    """
    return _Extraction(job, items, Path(output), extraction, source, dtype, on_error, skipped or {}).run(overwrite)


class _Extraction:
    """One run of `extract`."""

    def __init__(
        self,
        job: str,
        items: Iterable[VideoItem],
        output: Path,
        extraction: Extraction | Mapping[str, Any] | None,
        source: str,
        dtype: Dtype,
        on_error: OnError,
        skipped: Mapping[str, str],
    ) -> None:
        self.settings = Extraction.of(extraction)
        self.rows = VideoRows(self.settings, dtype)
        self.engine = Engine(output, self.rows, source, _SHARDS, on_error)
        self.output, self.on_error = output, on_error
        self.items, self.duplicates = unique_items(items)
        self.skipped = {name: printable(reason) for name, reason in skipped.items()}
        self.part = parse_part(self.settings.shard)
        self.files = fingerprints(self.items)
        encoder = str(self.settings.encoder.get("_target_", "")).rpartition(".")[2]
        inputs = repr([sorted(self.files.items()), sorted(self.skipped)]).encode("utf-8", "backslashreplace")
        digest = blake2b(inputs, digest_size=16).hexdigest()
        self.coverage = Coverage(job, output, digest, {"encoder": encoder, "settings": self.rows.key})

    def run(self, overwrite: bool) -> dict[str, Any]:
        if overwrite and self.part is not None:
            raise InputError("overwrite=true with shard=… would remove other parts; remove the output first")
        coverage = self._run(overwrite)
        if self.settings.format == "npy" and "waiting_for" not in coverage:
            write_npy(self.output)
        return coverage

    def _run(self, overwrite: bool) -> dict[str, Any]:
        """Encode missing videos, then join; parts on several machines encode in parallel, and the last one joins."""
        selected = select_items(self.items, self.settings.ids, self.settings.limit)
        started = time.perf_counter()
        with self.engine.lock(shared=self.part is not None):
            mine = selected if self.part is None else part_of(with_durations(selected), self.part)
            known = {} if overwrite else self._known()
            if not self.items and not known:
                raise InputError(
                    f"{self.output} was not written: there is no video to encode{first_reason(self.skipped)}"
                )
            self._stop_at_known_failures(mine, known)
            missing = [
                replace(item, fingerprint=self.files[item.id])
                for item in mine
                if not self._is_settled(known.get(item.id))
            ]
            if not missing and self.part is None and (last := self._up_to_date(known)):
                return last
            if overwrite:
                self.engine.remove_shards()
            lost = self._encode(missing)
            seconds = time.perf_counter() - started
            if self.part is None:
                return self._finish(self._known(lost, joined=not overwrite), selected, seconds)
            known = self.engine.with_unknown(mine, self._known(lost))
            waiting = [item.id for item in selected if item.id not in known]
            if waiting:
                return self._finish_part(mine, known, waiting)
        with self.engine.lock():
            return self._finish(self._known(lost), selected, seconds)

    def _encode(self, missing: Sequence[VideoItem]) -> dict[str, Finished]:
        if not missing:
            return {}
        compute = self.settings.make_compute()
        self.rows.check(compute)
        return self.engine.encode(with_durations(missing), compute, self.settings.n_shards)

    def _known(self, lost: Mapping[str, Finished] | None = None, joined: bool = True) -> dict[str, Finished]:
        """Return the results of earlier runs and this one, including those of failed shards (`lost`).

        A failure of this run counts unless the video is settled.
        """
        known = self.engine.finished(self.files.get, joined)
        return known | {name: one for name, one in (lost or {}).items() if not self._is_settled(known.get(name))}

    def _is_settled(self, one: Finished | None) -> bool:
        return one is not None and is_settled(one, self.files.get(one.entry.id, ""), self.settings.retry_failed)

    def _up_to_date(self, known: Mapping[str, Finished]) -> dict[str, Any] | None:
        if self.engine.has_shards():  # of a run that was killed before it had removed them all
            return None
        last = self.coverage.last_run(FeatureBank.open) if self.output.exists() else None
        if last is None or not self.engine.is_joined(known):
            return None
        logger.info("%s is up to date", self.output)
        return last | {"up_to_date": True}

    def _stop_at_known_failures(self, items: Sequence[VideoItem], known: Mapping[str, Finished]) -> None:
        for item in items if self.on_error == "stop" else ():
            one = known.get(item.id)
            if one is not None and one.entry.status == "failed" and self._is_settled(one):
                raise InputError(f"video {item.id!r}: {one.entry.reason} (on_error=skip continues without it)")

    def _finish_part(
        self, mine: Sequence[VideoItem], known: Mapping[str, Finished], waiting: Sequence[str]
    ) -> dict[str, Any]:
        failed = {item.id: known[item.id].entry.reason for item in mine if known[item.id].entry.status == "failed"}
        for name, reason in failed.items():
            logger.warning("video %r failed: %s", name, reason)
        if mine and len(failed) == len(mine):
            raise InputError(
                f"part {self.settings.shard}: none of {len(mine)} videos could be encoded{first_reason(failed)}"
            )
        logger.info("part %s is done; %d videos of other parts are missing", self.settings.shard, len(waiting))
        return {"part": self.settings.shard, "videos": len(mine), "failed": failed, "waiting_for": len(waiting)}

    def _finish(self, known: dict[str, Finished], selected: Sequence[VideoItem], seconds: float) -> dict[str, Any]:
        known = self.engine.with_unknown(selected, known)
        if not any(one.bank is not None for one in known.values()):
            failed = {name: one.entry.reason for name, one in known.items()}
            where = ""
            if not self.output.exists():  # keep the ledger of an existing bank
                self.engine.write_ledger(self._entries(known))
                where = f"; all reasons: {ledger_path(self.output)}"
            raise InputError(
                f"{self.output} was not written: none of {len(selected)} videos could be encoded"
                f"{first_reason(failed)}{where}"
            )
        if not self.engine.is_joined(known):
            self.coverage.forget_last_run()
        self.engine.join(known, self._entries(known))
        return self._cover(known, selected, seconds)

    def _entries(self, known: Mapping[str, Finished]) -> dict[str, Entry]:
        entries = {name: Entry(name, "skipped", reason) for name, reason in self.skipped.items()}
        for name, one in known.items():
            reason = "; ".join(filter(None, (one.entry.reason, self.duplicates.get(name, ""))))
            entries[name] = replace(one.entry, reason=reason)
        return entries

    def _cover(self, known: Mapping[str, Finished], selected: Sequence[VideoItem], seconds: float) -> dict[str, Any]:
        entries = {name: known[name].entry for name in sorted(known)}
        done = [entry for entry in entries.values() if entry.status == "done"]
        bank = FeatureBank.open(self.output)
        self.coverage.count(
            videos=len(self.items),
            done=len(done),
            rows=bank.n_rows,
            dim=bank.dim,
            encoder=bank.encoder,
            hours_of_video=round(sum(entry.video_s or 0.0 for entry in done) / 3600, 3),
            seconds_of_encoding=round(seconds, 1),
        )
        ids = {item.id for item in selected}
        self.coverage.add_list("failed", {name: e.reason for name, e in entries.items() if e.status == "failed"})
        self.coverage.add_list("skipped", {name: why for name, why in self.skipped.items() if name not in entries})
        self.coverage.add_list("duplicate_ids", self.duplicates)
        corrupt = {entry.id: f"{entry.corrupt_packets} packets" for entry in done if entry.corrupt_packets}
        self.coverage.add_list("with_corrupt_packets", corrupt)
        self.coverage.add_list("done_with_a_note", {entry.id: entry.reason for entry in done if entry.reason})
        self.coverage.add_list("kept_without_a_file", [entry.id for entry in done if entry.id not in self.files])
        self.coverage.add_list("not_selected", [name for name in self.files if name not in ids])
        return self.coverage.write() | {"up_to_date": False}


def missing_videos(
    items: Sequence[VideoItem],
    output: str | Path,
    extraction: Mapping[str, Any] | Extraction | None,
    dtype: Dtype,
    overwrite: bool = False,
) -> list[VideoItem]:
    """Return the videos that `extract` with these options would encode.

    Raises:
        InputError: an option is invalid.
    """
    settings = Extraction.of(extraction)
    items = select_items(unique_items(items)[0], settings.ids, settings.limit)
    if overwrite:
        return items
    files = fingerprints(items)
    known = Engine(Path(output), VideoRows(settings, dtype), "", _SHARDS).finished(files.get)
    return [item for item in items if not is_settled(known.get(item.id), files[item.id], settings.retry_failed)]


def videos_cost_warning(
    items: Sequence[VideoItem],
    output: str | Path,
    extraction: Mapping[str, Any] | Extraction | None,
    dtype: Dtype,
    overwrite: bool = False,
) -> str | None:
    """Return a warning if encoding the missing videos would take hours, else None."""
    missing = missing_videos(items, output, extraction, dtype, overwrite)
    paths = {item.path for item in missing}
    size = sum(map(size_of, paths))
    if size <= LARGE_VIDEO_BYTES:
        return None
    return f"{size / 1e9:,.0f} GB of video are to be encoded{'' if torch.cuda.is_available() else ' without a GPU'}"


def npy_folder(output: Path) -> Path:
    """Return the folder of a bank's `.npy` files: `X_npy` beside `X.h5`."""
    return output.with_name(f"{output.stem}_npy")


def output_files(output: Path) -> list[Path]:
    """Return the output files and folder of `extract`."""
    return [output, ledger_path(output), coverage_path(output), npy_folder(output)]


def write_npy(output: Path) -> None:
    """Write `<id>.npy` `[rows, dim]` float32 for each video of a bank, unless it exists and is newer than the bank.

    Files of ids that are not in the bank are removed. File names are those of `file_name`.
    """
    bank, made = FeatureBank.open(output), output.stat().st_mtime_ns
    paths = {npy_folder(output) / f"{file_name(name)}.npy": name for name in bank.videos}
    for path, name in paths.items():
        if not path.exists() or path.stat().st_mtime_ns < made:
            with atomic_path(path) as temporary:
                np.save(temporary, bank.video_rows(name).numpy(), allow_pickle=False)
    for path in set(npy_folder(output).glob("*.npy")) - set(paths):
        path.unlink()


def file_name(video: str) -> str:
    """Return a safe file name for any video id, even with `/`, `..` or control characters.

    Characters that are not allowed in file names are written as `%` and two hexadecimal digits; an id that is too long
    is truncated and gets its digest as a suffix.
    """
    written = re.sub(r'[%/\\:*?"<>|\x00-\x1f\x7f]', lambda found: f"%{ord(found[0]):02X}", video)
    written = "%2E" + written[1:] if written.startswith(".") else written
    raw = written.encode()
    if len(raw) <= _MAX_NAME_BYTES:
        return written
    digest = blake2b(video.encode(), digest_size=8).hexdigest()
    return raw[: _MAX_NAME_BYTES - 17].decode(errors="ignore") + "-" + digest


def _cut_off_note(duration_s: float, expected_s: float) -> str:
    if duration_s < 0.9 * expected_s - 1.0:
        return f"only {duration_s:.1f} s of the expected {expected_s:.1f} s; truncated?"
    return ""


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
