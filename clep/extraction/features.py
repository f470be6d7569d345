"""Pack existing feature files, one per video, into a bank; or copy videos from another bank."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from math import ceil
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from clep.bank import BankWriter, Clock, FeatureBank, copy_video
from clep.compute import Local
from clep.errors import InputError
from clep.extraction.coverage import Coverage
from clep.extraction.engine import Engine, ShardSize, is_settled
from clep.extraction.feature_files import FAULTS, checked_rows, most_common_dim, open_features, read_shapes
from clep.extraction.items import Dtype, EncodedItem, Item, OnError, RowFacts, RowSource, file_fingerprint
from clep.extraction.shard import Finished

logger = logging.getLogger(__name__)

SHARD_BYTES = 2**30
TOLERATED_ROWS = 2


@dataclass(frozen=True)
class PackSettings:
    """Options of packing features.

    Attributes:
        clock: clock of the features.
        dtype: dtype of the bank.
        encoder: name of the video encoder.
        source: where the features come from, stored in the bank.
        on_error: "skip" lists an unusable file and continues, "stop" raises.
        allow_nonfinite: keep rows with NaN or infinity.
        allow_vector: accept a file with one vector `[dim]` as one row.
        array: name of the array in a `.npz`, `.h5` or `.pt` file that holds several; None: there is one.
        shard_bytes: size of the input files of one shard; a kill loses at most one shard.
    """

    clock: Clock
    dtype: Dtype = "float16"
    encoder: str = ""
    source: str = ""
    on_error: OnError = "skip"
    allow_nonfinite: bool = False
    allow_vector: bool = False
    array: str | None = None
    shard_bytes: int = SHARD_BYTES


@dataclass
class PackReport:
    """Result of packing features.

    Attributes:
        videos: ids, in the order of the bank.
        rows: number of rows.
        dim: feature dimension.
        skipped: reason by kind of fault (see `FeatureFileError`) and id.
        off_duration: by id, how the row count differs from the duration; such videos are packed.
    """

    videos: list[str] = field(default_factory=list)
    rows: int = 0
    dim: int = 0
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)
    off_duration: dict[str, str] = field(default_factory=dict)

    def add_to(self, coverage: Coverage) -> None:
        """Record counts, a list for each kind of fault, and videos of unlikely length."""
        coverage.count(videos_packed=len(self.videos), rows=self.rows, dim=self.dim)
        for kind in FAULTS:
            coverage.add_list(kind, self.skipped.get(kind, {}))
        coverage.add_list("rows_disagree_with_duration", self.off_duration)


@dataclass(frozen=True)
class FeatureFile:
    """A feature file, see `Item`; `duration_s` is the length of its video, None if unknown."""

    id: str
    path: Path
    fingerprint: str
    cost: int
    max_rows: int | None
    duration_s: float | None = None


@dataclass(frozen=True)
class FeatureRows(RowSource):
    """Reads feature files as rows; both source and encoder, since no model is needed."""

    dim: int
    name: str
    clock: Clock
    dtype: Dtype
    allow_vector: bool
    allow_nonfinite: bool
    array: str | None = None
    noun: ClassVar[str] = "feature files"

    @property
    def key(self) -> str:
        """Digest of all settings that the rows depend on."""
        return blake2b(repr(sorted(asdict(self).items())).encode(), digest_size=6).hexdigest()

    def load(self) -> "FeatureRows":
        """Return itself."""
        return self

    def bank_clock(self) -> Clock:
        """Return the clock of the features."""
        return self.clock

    def encode(self, items: Sequence[Item], begin: Callable[[Item], None]) -> Iterator[EncodedItem]:
        """Yield the rows of each file, which are read and verified during iteration."""
        for item in items:
            assert isinstance(item, FeatureFile)
            yield self._read(item)

    def _read(self, file: FeatureFile) -> EncodedItem:
        facts = RowFacts()

        def blocks() -> Iterator[Tensor]:
            nonlocal facts
            value = open_features(file.path, self.allow_vector, verify=True, array=self.array)
            rows = checked_rows(file.path, value, self.dim, self.dtype, self.allow_nonfinite)
            facts = self._facts(file, len(rows))
            yield rows

        return EncodedItem(file, blocks(), lambda: facts)

    def _facts(self, file: FeatureFile, n_rows: int) -> RowFacts:
        """Keep the duration if it fits the row count; a wrong one would misplace the back-padded last row."""
        expected = None if file.duration_s is None else expected_rows(file.duration_s, self.clock)
        if expected is None:
            return RowFacts()
        if abs(expected - n_rows) > TOLERATED_ROWS:
            return RowFacts(note=f"{n_rows} rows, but {expected} fit its {file.duration_s:.1f} s")
        return RowFacts(duration_s=file.duration_s)


def expected_rows(duration_s: float, clock: Clock) -> int | None:
    """Return the row count of a video, including the back-padded last row; None for an irregular clock."""
    if clock.rows_per_second is None or not duration_s > 0:
        return None
    return max(1, ceil((duration_s - clock.row_seconds) * clock.rows_per_second - 1e-6) + 1)


def pack_features(
    files: Mapping[str, Path],
    output: str | Path,
    settings: PackSettings,
    durations: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> PackReport:
    """Write a bank from `{id: file}`, in the order of ids; a rerun reads only new and changed files.

    Packing temporarily needs twice the bank's size on disk.

    Args:
        files: paths by id, from `feature_files`.
        output: the bank to write, `*.h5`.
        settings: see `PackSettings`.
        durations: known durations in seconds, by id.
        overwrite: read all files again, even those whose rows are in the bank.

    Raises:
        InputError: no file is usable, the disk is full, or with `on_error="stop"` a file is unusable.
    """
    shapes = read_shapes(files, settings.allow_vector, settings.array)
    dim = most_common_dim(files, shapes, settings.allow_vector, settings.array) or 1
    _refuse_transposed(shapes, dim)
    source = FeatureRows(
        *(dim, settings.encoder, settings.clock, settings.dtype, settings.allow_vector, settings.allow_nonfinite),
        settings.array,
    )
    items = _items(files, shapes, dim, durations or {})
    engine = Engine(Path(output), source, settings.source, ShardSize(settings.shard_bytes), settings.on_error)
    fingerprints = {item.id: item.fingerprint for item in items}
    with engine.lock():
        known = engine.finished(fingerprints.get, joined=not overwrite)
        settled = {item.id for item in items if is_settled(known.get(item.id), item.fingerprint)}
        _stop_at_known_failures([item for item in items if item.id in settled], known, settings.on_error)
        lost = engine.encode([item for item in items if item.id not in settled], Local(processes=1))
        if lost:  # an error of the process, not of a file, such as a full disk
            raise InputError(next(iter(lost.values())).entry.reason)
        known = engine.with_unknown(items, engine.finished(fingerprints.get, joined=not overwrite))
        known = {item.id: known[item.id] for item in items}
        report = _report(known, dim)
        if not report.videos:
            reasons = [f"{name}: {why}" for group in report.skipped.values() for name, why in group.items()]
            raise InputError(
                f"{output} was not written: none of the {len(files)} feature files is usable; {reasons[0]}"
            )
        engine.join(known)
    return report


def _refuse_transposed(shapes: Mapping[str, tuple[int, int]], dim: int) -> None:
    """Refuse files `[dim, rows]`: as many rows in all of them, and mostly other dimensions than the most common one.

    Raises:
        InputError: they are such files; names two of them.
    """
    usable = {name: shape for name, shape in shapes.items() if shape[1]}
    others = sum(found != dim for _, found in usable.values())
    if len(usable) > 2 and others > len(usable) / 2 and len({rows for rows, _ in usable.values()}) == 1:
        (one, one_shape), (other, other_shape), *_ = usable.items()
        raise InputError(
            f"all feature files have {one_shape[0]} rows, but different dimensions ({one}: {list(one_shape)}, "
            f"{other}: {list(other_shape)}): they seem to be [dim, rows]; transpose them to [rows, dim]"
        )


def _items(
    files: Mapping[str, Path], shapes: Mapping[str, tuple[int, int]], dim: int, durations: Mapping[str, float]
) -> list[FeatureFile]:
    items = []
    for name, path in files.items():
        duration_s = durations.get(name)
        size = path.stat().st_size if path.is_file() else 0
        rows, dim_of_file = shapes.get(name, (None, dim))
        max_rows = rows if dim_of_file == dim else 0
        items.append(FeatureFile(name, path, f"{file_fingerprint(path)}-{duration_s}", size, max_rows, duration_s))
    return items


def _stop_at_known_failures(items: Sequence[FeatureFile], known: Mapping[str, Finished], on_error: OnError) -> None:
    for item in items:
        entry = known[item.id].entry
        if on_error == "stop" and entry.status == "failed":
            raise InputError(f"{item.path}: {entry.reason} (on_error=skip continues without it)")


def _report(known: Mapping[str, Finished], dim: int) -> PackReport:
    report = PackReport(dim=dim)
    for name in sorted(known):
        entry = known[name].entry
        if entry.status != "done":
            report.skipped.setdefault(entry.kind or "unreadable", {})[name] = entry.reason
            continue
        report.videos.append(name)
        report.rows += entry.rows
        if entry.reason:
            report.off_duration[name] = entry.reason
    return report


def copy_videos(bank_path: str | Path, ids: list[str], output: str | Path, settings: PackSettings) -> PackReport:
    """Copy the videos `ids` that another bank has to a new bank, in this order, with its clock and encoder.

    Raises:
        InputError: the bank cannot be opened, has no clock, or has none of the ids.
    """
    bank = FeatureBank.open(bank_path)
    if bank.clock is None:
        raise InputError(f"{bank_path} is a bank of texts (it has no clock); give a bank of video features")
    found = [name for name, index in zip(ids, bank.index(ids).tolist(), strict=True) if index >= 0]
    if not found:
        raise InputError(
            f"{bank_path} has none of the {len(ids)} clips: its ids are like {list(bank.videos[:3])}, but those of the "
            f"clips like {ids[:3]}; rename one of them"
        )
    rows = bank.first_row.diff()[bank.index(found)]
    report = PackReport(videos=found, rows=int(rows.sum()), dim=bank.dim)
    copied = replace(settings, clock=bank.clock, encoder=bank.encoder or settings.encoder)
    with BankWriter(
        output,
        bank.dim,
        copied.clock,
        copied.dtype,
        copied.encoder,
        copied.source,
        allow_nonfinite=copied.allow_nonfinite,
        n_rows=report.rows,
    ) as writer:
        for name in found:
            copy_video(bank, name, writer)
    return report
