"""Pack many feature files into one bank, in shards that survive an interruption."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import ceil
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from clep.bank import BankWriter, Clock, FeatureBank, copy_video
from clep.errors import InputError
from clep.extraction.coverage import Coverage
from clep.extraction.feature_files import FeatureFileError, checked_rows, most_common_dim, open_features
from clep.extraction.inputs import folder_digest
from clep.files import read_json, write_json

Dtype = Literal["float16", "float32", "uint8"]
OnError = Literal["skip", "stop"]
SHARD_BYTES = 2**30
SHARD_FILES = 4096  # all files of a shard are mapped at once, and Linux allows a process 65,530 maps
TOLERATED_ROWS = 2
FAULTS = ("unreadable", "pickles_code", "wrong_shape", "other_dim", "not_finite")


@dataclass(frozen=True)
class PackSettings:
    """What the rows of a bank are, and what to do about a file that cannot be used.

    Attributes:
        clock: seconds ↔ rows of the encoder that made the features.
        dtype: number format of the bank.
        encoder: name of the video encoder.
        source: words about where the features come from, kept in the bank.
        on_error: "skip" lists a bad file and goes on, "stop" refuses it at once.
        allow_nonfinite: keep rows with NaN or infinity.
        allow_vector: a file may hold one vector `[dim]`, which is one row.
        shard_bytes: size of the input files that one shard takes; an interruption loses at most one shard.
    """

    clock: Clock
    dtype: Dtype = "float16"
    encoder: str = ""
    source: str = ""
    on_error: OnError = "skip"
    allow_nonfinite: bool = False
    allow_vector: bool = False
    shard_bytes: int = SHARD_BYTES


@dataclass
class PackReport:
    """What went into a bank: ids in order, rows, and what was not used or looks wrong.

    Attributes:
        skipped: kind of fault (see `FeatureFileError`) → id → reason.
        off_duration: id → how its number of rows disagrees with its duration; such videos are packed.
    """

    videos: list[str] = field(default_factory=list)
    rows: int = 0
    dim: int = 0
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)
    off_duration: dict[str, str] = field(default_factory=dict)

    def add(self, other: "PackReport") -> None:
        """Append the report of a later shard."""
        self.videos += other.videos
        self.rows += other.rows
        self.off_duration |= other.off_duration
        for kind, reasons in other.skipped.items():
            self.skipped.setdefault(kind, {}).update(reasons)


def expected_rows(duration_s: float, clock: Clock) -> int | None:
    """Return how many rows the encoder makes of a video, the back-padded last one included."""
    if clock.rows_per_second is None or not duration_s > 0:
        return None
    return max(1, ceil((duration_s - clock.row_seconds) * clock.rows_per_second - 1e-6) + 1)


def pack_features(
    files: Mapping[str, Path], output: str | Path, settings: PackSettings, durations: Mapping[str, float] | None = None
) -> PackReport:
    """Write one bank from `{id: file}`, in that order; run again after an interruption, it continues.

    Shards lie in the hidden folder `.<output>.parts` beside the output, which is removed at the end; a shard counts as
    finished once its report lies beside it, and only for the same files and settings. Packing needs twice the bank's
    size on disk for a while.

    Args:
        files: as `feature_files` lists them.
        output: the bank to write, `*.h5`.
        settings: see `PackSettings`.
        durations: seconds of the videos, where known.

    Raises:
        InputError: no file can be used, the disk is full, or with `on_error="stop"` a file is bad.
    """
    output = Path(output)
    parts = output.with_name(f".{output.name}.parts")
    durations = durations or {}
    dim = most_common_dim(files.values(), allow_vector=settings.allow_vector) or 1
    total = PackReport(dim=dim)
    shards: list[Path] = []
    with _progress("packing features") as progress:
        task = progress.add_task("", total=len(files))
        for number, slice_ in enumerate(_slices(files, settings.shard_bytes)):
            shard = parts / f"{number:05d}-{_shard_key(slice_, dim, settings, durations)}.h5"
            report = _finished(shard) or _write_shard(shard, slice_, dim, settings, durations)
            total.add(report)
            if report.videos:
                shards.append(shard)
            progress.advance(task, len(slice_))
    if not total.videos:
        reasons = [f"{name}: {why}" for group in total.skipped.values() for name, why in group.items()]
        raise InputError(
            f"none of the {len(files)} feature files can be used, so {output} was not written; {reasons[0]}"
        )
    for old in set(parts.glob("*.h5")) - set(shards):
        old.unlink()
    _join(shards, output, total, settings)
    shutil.rmtree(parts, ignore_errors=True)
    return total


def note_packed(coverage: Coverage, report: PackReport) -> None:
    """Record what was packed: counts, a list for each kind of fault, and videos of unlikely length."""
    coverage.count(videos_packed=len(report.videos), rows=report.rows, dim=report.dim)
    for kind in FAULTS:
        coverage.add_list(kind, report.skipped.get(kind, {}))
    coverage.add_list("rows_disagree_with_duration", report.off_duration)


def _slices(files: Mapping[str, Path], shard_bytes: int) -> Iterator[dict[str, Path]]:
    current: dict[str, Path] = {}
    size = 0
    for name, path in files.items():
        current[name] = path
        size += path.stat().st_size
        if size >= shard_bytes or len(current) == SHARD_FILES:
            yield current
            current, size = {}, 0
    if current:
        yield current


def _shard_key(files: Mapping[str, Path], dim: int, settings: PackSettings, durations: Mapping[str, float]) -> str:
    said = repr((folder_digest(files.values()), dim, settings, [durations.get(name) for name in files]))
    return blake2b(said.encode(), digest_size=8).hexdigest()


def _finished(shard: Path) -> PackReport | None:
    report = shard.with_suffix(".json")
    if not report.exists():
        return None
    found = PackReport(**read_json(report))
    return found if shard.exists() or not found.videos else None


def _write_shard(
    shard: Path, files: Mapping[str, Path], dim: int, settings: PackSettings, durations: Mapping[str, float]
) -> PackReport:
    report = PackReport(dim=dim)

    def skip(name: str, error: FeatureFileError) -> None:
        if settings.on_error == "stop":
            raise error
        report.skipped.setdefault(error.kind, {})[name] = error.reason

    opened: dict[str, Tensor] = {}
    for name, path in files.items():
        try:
            opened[name] = open_features(path, settings.allow_vector)
        except FeatureFileError as error:
            skip(name, error)
    # Shapes come before the numbers are read, so that rows go straight to their place in the file.
    most_rows = sum(len(value) for value in opened.values() if value.shape[1] == dim)
    with ExitStack() as stack:
        writer: BankWriter | None = None
        for name, value in opened.items():
            try:
                rows = checked_rows(files[name], value, dim, settings.dtype, settings.allow_nonfinite)
            except FeatureFileError as error:
                skip(name, error)
                continue
            # A bank without a video is none, so the writer waits for the first file that can be used.
            writer = writer or stack.enter_context(_writer(shard, dim, settings, most_rows))
            writer.add(name, rows, duration_s=_believed(name, len(rows), durations, settings.clock, report))
            report.videos.append(name)
            report.rows += len(rows)
    write_json(shard.with_suffix(".json"), vars(report))
    return report


def _believed(name: str, n_rows: int, durations: Mapping[str, float], clock: Clock, report: PackReport) -> float | None:
    """Return the duration of a video unless its rows contradict it, which goes into the report.

    A wrong duration would put the back-padded last row at the wrong second.
    """
    duration_s = durations.get(name)
    wanted = None if duration_s is None else expected_rows(duration_s, clock)
    if wanted is None:
        return None
    if abs(wanted - n_rows) > TOLERATED_ROWS:
        report.off_duration[name] = f"{n_rows} rows, but {wanted} fit its {duration_s:.1f} s"
        return None
    return duration_s


def _writer(path: Path, dim: int, settings: PackSettings, n_rows: int | None = None) -> BankWriter:
    return BankWriter(
        path,
        dim=dim,
        clock=settings.clock,
        dtype=settings.dtype,
        encoder=settings.encoder,
        source=settings.source,
        allow_nonfinite=settings.allow_nonfinite,
        n_rows=n_rows,
    )


def _join(shards: list[Path], output: Path, total: PackReport, settings: PackSettings) -> None:
    if len(shards) == 1:
        shards[0].replace(output)
        return
    with _progress("joining shards") as progress, _writer(output, total.dim, settings, total.rows) as writer:
        task = progress.add_task("", total=len(total.videos))
        for shard in shards:
            bank = FeatureBank.open(shard)
            for name in bank.videos:
                copy_video(bank, name, writer)
                progress.advance(task)


def copy_videos(bank_path: str | Path, ids: list[str], output: str | Path, settings: PackSettings) -> PackReport:
    """Write a bank of those of `ids` that another bank holds, in that order, with that bank's clock and encoder.

    Raises:
        InputError: the bank cannot be opened, or holds none of the ids.
    """
    bank = FeatureBank.open(bank_path)
    if bank.clock is None:
        raise InputError(f"{bank_path} is a bank of texts (it has no clock), not of video features")
    found = [name for name, index in zip(ids, bank.index(ids).tolist(), strict=True) if index >= 0]
    if not found:
        raise InputError(
            f"{bank_path} holds none of the {len(ids)} clips; its ids look like "
            f"{list(bank.videos[:3])}, those of the clips like {ids[:3]}"
        )
    rows = bank.first_row.diff()[bank.index(found)]
    report = PackReport(videos=found, rows=int(rows.sum()), dim=bank.dim)
    copied = replace(settings, clock=bank.clock, encoder=bank.encoder or settings.encoder)
    with _writer(Path(output), bank.dim, copied, report.rows) as writer:
        for name in found:
            copy_video(bank, name, writer)
    return report


def _progress(what: str) -> Progress:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True, disable=not Console().is_terminal)
