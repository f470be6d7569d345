"""The resumable engine: items → rows in shards, on this machine or a cluster → one bank; a rerun does what is missing.

All state is in files. A shard is a bank with a ledger, in a hidden folder beside the output; it is complete or absent.
An item is done if the output or a shard has rows of it with the same settings and fingerprint. Missing items are split
into new shards, and at the end all shards are joined in the order of ids.
"""

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby
from math import ceil, isnan
from pathlib import Path
from typing import Any

from clep.bank import BankWriter, FeatureBank, copy_video
from clep.compute.locks import file_lock
from clep.errors import InputError
from clep.extraction.coverage import coverage_path
from clep.extraction.items import Item, OnError, Rows, RowSource, shards_of
from clep.extraction.ledger import (
    Entry,
    ProgressReader,
    ledger_path,
    progress_bar,
    read_intact_entries,
    update_bar,
    write_ledger,
)
from clep.extraction.shard import Finished, ShardTask, encode_shard, read_finished, source_attribute, unload_encoder
from clep.files import atomic_path, is_abandoned, remove_temporaries

logger = logging.getLogger(__name__)

LATE_S = 60.0
"""Seconds to wait for files of workers that a shared file system does not show yet."""

NO_LEDGER_S = 3600.0
"""Age in seconds after which a shard without a ledger is removed: its worker was killed before it wrote the ledger."""

NOT_VISIBLE = "its worker has finished, but its files are not visible here; run again"
NO_RESULT = "no worker reported a result for it; run again"
_MAX_OPEN_BANKS = 32
_VIEW_BYTES = 1 << 22


@dataclass(frozen=True)
class ShardSize:
    """Default size of shards.

    Attributes:
        cost: cost of one shard, in the unit of the items' costs.
        unknown_cost: assumed cost of an item whose cost is NaN.
        fewest, most: bounds of the number of shards.
        save_every: see `ShardTask`.
    """

    cost: float | int
    unknown_cost: float = 1.0
    fewest: int = 1
    most: int = 500
    save_every: int | None = None

    def n_shards(self, items: Sequence[Item]) -> int:
        """Return the number of shards for these items."""
        costs = [self.unknown_cost if isnan(item.cost) else item.cost for item in items]
        return min(self.most, max(self.fewest, ceil(sum(costs) / self.cost)))


@dataclass(frozen=True)
class Engine:
    """Makes one bank from items, resumably.

    ```python
    engine = Engine(output, source, "videos: films", ShardSize(cost=1800.0))
    with engine.lock():
        known = engine.finished(fingerprints.get)
        lost = engine.encode([item for item in items if not is_settled(known.get(item.id), item.fingerprint)], Local())
        engine.join(lost | engine.finished(fingerprints.get))
    ```

    Attributes:
        output: the bank, `.h5`; its ledger is written beside it, shards into the hidden folder `.<output>.shards`.
        source: how items become rows.
        description: where the items come from, for the bank's `source` attribute.
        size: size of the shards.
        on_error: "stop" ends all shards at the first unusable item.
    """

    output: Path
    source: RowSource
    description: str
    size: ShardSize
    on_error: OnError = "skip"

    def __post_init__(self) -> None:
        if self.output.suffix != ".h5" or self.output.is_dir():
            raise InputError(f"output={self.output} must be a file name that ends in .h5")

    @contextmanager
    def lock(self, shared: bool = False) -> Iterator[None]:
        """Hold the lock of the output; parts on several machines (`shard=i/n`) share it.

        The holder of an exclusive lock removes unfinished files of killed runs.
        """
        with file_lock(self.output.with_name(f"{self.output.stem}.shards"), shared=shared):
            if not shared:
                self._remove_leftovers()
            yield

    def finished(self, fingerprint_of: Callable[[str], str | None], joined: bool = True) -> dict[str, Finished]:
        """Return the results of earlier runs with the same settings, from the bank and from complete shards.

        If an item has several results, those with the current fingerprint are preferred, then those with rows.

        Args:
            fingerprint_of: returns the current fingerprint of an id, None if it is no longer among the items.
            joined: whether to include the bank; False: only shards.
        """
        found: dict[str, Finished] = {}

        def rank(one: Finished) -> tuple[bool, bool]:
            return one.entry.fingerprint == fingerprint_of(one.entry.id), one.bank is not None

        banks = [(self.output, ledger_path(self.output))] if joined else []
        banks += [(ledger.with_suffix(".h5"), ledger) for ledger in self._shard_ledgers()]
        for bank_path, ledger in banks:
            for one in read_finished(bank_path, ledger, self.source.key):
                known = found.get(one.entry.id)
                if known is None or rank(one) > rank(known):
                    found[one.entry.id] = one
        return found

    def encode(self, items: Sequence[Item], compute: Any, n_shards: int | None = None) -> dict[str, Finished]:
        """Encode items into shards; return a failure for each item of a failed shard.

        Args:
            items: items with fingerprints.
            compute: a `clep.compute.Local` or `Slurm`.
            n_shards: number of shards; None: from `size`.

        Raises:
            InputError: the encoder cannot be loaded, or with on_error="stop" an item is unusable.
        """
        if not items:
            return {}
        folder = shards_folder(self.output)
        stopped = folder / f"{self.source.key}-{uuid.uuid4().hex[:8]}.stopped"
        tasks = self._tasks(items, n_shards or self.size.n_shards(items), stopped)
        for task in tasks.values():  # crashes of an earlier run do not count
            task.journal().unlink(missing_ok=True)
        reader = ProgressReader([task.journal() for task in tasks.values()])
        try:
            with progress_bar(reader, self.source.noun, len(items)) as bar:
                lost = compute.run(encode_shard, tasks, folder / "logs", lambda: update_bar(bar, reader))
        finally:
            stopped.unlink(missing_ok=True)
            unload_encoder()
        if reader.video_s:
            logger.info("%d %s, %.0f hours per hour", len(reader.status), self.source.noun, reader.hours_per_hour())
        if lost and self.on_error == "stop":
            raise InputError(next((why for why in lost.values() if "on_error" in why), next(iter(lost.values()))))
        late = wait_for_files(
            lambda: [name for name, task in tasks.items() if name not in lost and not task.is_visible()], folder
        )
        return self._failures(tasks, lost | dict.fromkeys(late, NOT_VISIBLE))

    def with_unknown(self, items: Sequence[Item], known: Mapping[str, Finished]) -> dict[str, Finished]:
        """Add a failure for each item without a result, so that none is lost silently."""
        unknown = [Entry(item.id, "failed", NO_RESULT, final=False) for item in items if item.id not in known]
        return {entry.id: Finished(entry, None) for entry in unknown} | dict(known)

    def is_joined(self, known: Mapping[str, Finished]) -> bool:
        """Whether the bank holds the rows of exactly these results, and no shard has newer ones."""
        done = {self.source.entry(name) for name, one in known.items() if one.bank is not None}
        return (
            self.output.exists()
            and all(one.bank in (None, self.output) for one in known.values())
            and set(FeatureBank.open(self.output).videos) == done
        )

    def join(
        self, known: Mapping[str, Finished], entries: Mapping[str, Entry] | None = None, attribute: str | None = None
    ) -> None:
        """Write the bank from the shards and the previous bank, then its ledger, then remove the shards.

        Args:
            known: results, at least one with rows. If the bank already has exactly these rows, it is not written.
            entries: entries of the ledger; None: those of `known`.
            attribute: the bank's `source`; None: `description` and the settings.

        Raises:
            InputError: the disk is full, or a bank cannot be read.
        """
        if not any(one.bank is not None for one in known.values()):
            reasons = {name: one.entry.reason for name, one in known.items()}
            raise InputError(f"{self.output} was not written: no item has rows{first_reason(reasons)}")
        if not self.is_joined(known):
            self._write_bank(known, attribute or source_attribute(self.description, self.source.key))
        entries = entries or {name: one.entry for name, one in known.items()}
        self.write_ledger(entries)
        self.remove_shards({name for name, one in entries.items() if one.status == "failed" and not one.final})

    def write_ledger(self, entries: Mapping[str, Entry]) -> None:
        """Write the ledger of the bank, sorted by id."""
        write_ledger(ledger_path(self.output), [entries[name] for name in sorted(entries)])

    def remove_shards(self, pending: Collection[str] = ()) -> None:
        """Remove the shards, once the bank and its ledger are on the disk.

        A network file system may show the two files of a shard at different times. So where results of items are still
        pending, a ledger that names one of them stays until its bank is visible, and a bank without a ledger stays.
        A ledger is removed before its bank: what a kill leaves is a bank without a ledger, which is ignored, and which
        the next run removes.

        Args:
            pending: ids of the items whose results may be in files that are not visible yet.
        """
        folder = shards_folder(self.output)
        if not folder.exists():
            return
        for ledger in self._shard_ledgers():
            bank = ledger.with_suffix(".h5")
            if bank.exists() or not _has_rows_of(ledger, pending):
                for path in (ledger, bank, bank.with_suffix(".journal")):
                    path.unlink(missing_ok=True)
        for path in folder.glob("*"):
            if path.is_file() and not (pending and path.name.startswith(f"{self.source.key}-")):
                path.unlink(missing_ok=True)
        if not any(folder.glob("*.h5")) and not any(folder.glob("*.jsonl")):
            shutil.rmtree(folder, ignore_errors=True)

    def has_shards(self) -> bool:
        """Whether there are shards of these settings, complete or not."""
        return any(shards_folder(self.output).glob(f"{self.source.key}-*"))

    def _shard_ledgers(self) -> list[Path]:
        return sorted(shards_folder(self.output).glob(f"{self.source.key}-*.jsonl"))

    def _tasks(self, items: Sequence[Item], n_shards: int, stopped: Path) -> dict[str, ShardTask]:
        by_id = {item.id: item for item in items}
        tasks: dict[str, ShardTask] = {}
        for ids in shards_of(items, n_shards):
            # The name depends on the fingerprints, so that a changed file gives another shard.
            content = "\0".join(f"{name} {by_id[name].fingerprint}" for name in ids)
            name = blake2b(content.encode(errors="backslashreplace"), digest_size=6).hexdigest()
            tasks[name] = ShardTask(
                shards_folder(self.output) / f"{self.source.key}-{name}.h5",
                tuple(by_id[name] for name in ids),
                self.source,
                self.description,
                self.on_error,
                stopped,
                self.size.save_every,
            )
        return tasks

    def _failures(self, tasks: Mapping[str, ShardTask], lost: Mapping[str, str]) -> dict[str, Finished]:
        for reason in dict.fromkeys(lost.values()):
            shards = [name for name, why in lost.items() if why == reason]
            count = sum(len(tasks[name].items) for name in shards)
            logger.error("shards %s with %d %s failed: %s", ", ".join(shards), count, self.source.noun, reason)
        return {
            item.id: Finished(
                Entry(item.id, "failed", reason, fingerprint=item.fingerprint, settings=self.source.key, final=False),
                None,
            )
            for name, reason in lost.items()
            for item in tasks[name].items
        }

    def _write_bank(self, known: Mapping[str, Finished], attribute: str) -> None:
        """Copy rows in the order of ids, or hard-link a single shard; few banks are open at a time."""
        opened: Callable[[Path], FeatureBank] = lru_cache(_MAX_OPEN_BANKS)(FeatureBank.open)
        banks = {name: one.bank for name, one in known.items() if one.bank is not None}
        first = opened(next(iter(banks.values())))
        if len(set(banks.values())) == 1 and first.videos == sorted(banks) and first.source == attribute:
            with suppress(InputError), atomic_path(self.output) as temporary:  # a file system may have no hard links
                os.link(next(iter(banks.values())), temporary)
                return
        rows = sum(known[name].entry.rows for name in banks)
        with BankWriter(
            self.output,
            first.dim,
            self.source.bank_clock(),
            self.source.dtype,
            first.encoder,
            attribute,
            allow_nonfinite=self.source.allow_nonfinite,
            n_rows=rows,
        ) as writer:
            for entry, group in groupby(sorted(banks), key=self.source.entry):
                names = list(group)
                if names == [entry]:
                    copy_video(opened(banks[entry]), entry, writer)
                else:
                    writer.add(entry, _rows_of([(opened, banks[name], name) for name in names]))

    def _remove_leftovers(self) -> None:
        folder = shards_folder(self.output)
        for path in (self.output, ledger_path(self.output), coverage_path(self.output)):
            remove_temporaries(path)
        for left in folder.glob(".*.tmp.*"):
            left.unlink(missing_ok=True)
        for bank in folder.glob("*.h5"):
            if bank.with_suffix(".jsonl").exists():
                continue
            old = time.time() - bank.stat().st_mtime > NO_LEDGER_S
            if old or is_abandoned(bank.stem.rpartition("-")[2]):
                bank.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()  # of a run that was killed while it removed its shards


def is_settled(one: Finished | None, fingerprint: str, retry_failed: bool = False) -> bool:
    """Whether an item with this fingerprint needs no work: it is done, or fails for good."""
    if one is None or one.entry.fingerprint != fingerprint:
        return False
    return one.entry.status == "done" or (one.entry.final and not retry_failed)


def shards_folder(output: Path) -> Path:
    """Return the hidden folder of the shards until they are joined."""
    return output.with_name(f".{output.stem}.shards")


def first_reason(reasons: Mapping[str, str]) -> str:
    """Return the first of several reasons as the end of a sentence; "" if there is none."""
    for name, reason in reasons.items():
        return f"; the first, {name!r}: {reason}"
    return ""


def wait_for_files(hidden: Callable[[], Sequence[str]], folder: Path) -> Sequence[str]:
    """Wait up to a minute for files that workers have written; return the names of those still not visible.

    Args:
        hidden: returns the names of the files that are not visible.
        folder: their folder.
    """
    until = time.monotonic() + LATE_S
    while (names := hidden()) and time.monotonic() < until:
        time.sleep(min(0.5, LATE_S))
        list(folder.glob("*"))  # refreshes the cache of a network file system
    return names


def _rows_of(parts: Sequence[tuple[Callable[[Path], FeatureBank], Path, str]]) -> Iterator[Rows]:
    """Yield the rows of items in views of the mapped shards.

    Copies of whole items would each leave a hole in the heap, as large as the item, between the tables of the banks.
    """
    for opened, path, name in parts:
        bank = opened(path)
        bank.verify_video(name)  # refuses also where the bank lacks it
        index = int(bank.index([name])[0])
        first, last = bank.first_row[index : index + 2].tolist()
        step = max(1, _VIEW_BYTES // (bank.dim * bank.dtype.itemsize))
        for start in range(first, last, step):
            yield bank.block(start, min(start + step, last))


def _has_rows_of(ledger: Path, items: Collection[str]) -> bool:
    return any(entry.status == "done" and entry.id in items for entry in read_intact_entries(ledger))
