"""One shard: encode its items into a bank file, complete or absent."""

import errno
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clep.bank import BankWriter, FeatureBank
from clep.compute import Stopped
from clep.errors import InputError
from clep.extraction.items import EncodedItem, Item, OnError, RowEncoder, RowFacts, Rows, RowSource, printable
from clep.extraction.ledger import Entry, Journal, Status, read_intact_entries, write_ledger
from clep.files import flush, writer_token
from clep.remote import UnreachableError

logger = logging.getLogger(__name__)

# Errors of the system rather than of the file, which may not occur in another run.
_TEMPORARY = {errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT}


@dataclass(frozen=True)
class Finished:
    """The result for an item, and the bank that holds its rows (None if it has none)."""

    entry: Entry
    bank: Path | None


def source_attribute(description: str, key: str) -> str:
    """Return the `source` attribute of a bank made with the settings of `key`."""
    return f"{description} [settings {key}]"


def read_finished(bank_path: Path, ledger: Path, key: str) -> list[Finished]:
    """Return the results in a bank and its ledger that were made with the settings of `key`.

    A bank that is damaged or of an older format is ignored, so that its items are encoded again.
    """
    if not ledger.exists():
        return []
    try:
        entries = [entry for entry in read_intact_entries(ledger) if entry.settings == key]
        ids: set[str] = set()
        if bank_path.exists():
            bank = FeatureBank.open(bank_path)
            ids = set(bank.videos) if bank.source.endswith(source_attribute("", key)) else set()
    except InputError:
        return []
    done = [Finished(entry, bank_path) for entry in entries if entry.status == "done" and entry.id in ids]
    return done + [Finished(entry, None) for entry in entries if entry.status == "failed"]


@dataclass(frozen=True)
class ShardTask:
    """Task of one worker: encode a shard.

    Attributes:
        path: bank file of the shard; `.jsonl` beside it is its ledger, `.journal` its journal.
        items: items with fingerprints.
        source: how they become rows.
        description: where the items come from, for the `source` attribute of the bank.
        on_error: "stop" ends the shard at the first unusable item.
        stopped: a file that, once it exists, ends all shards of this run, since one failed with on_error="stop".
        save_every: save finished items as a separate bank after this many items, so that a kill loses no more; None:
            only when the shard is complete or the attempt is stopped.
    """

    path: Path
    items: tuple[Item, ...]
    source: RowSource
    description: str
    on_error: OnError
    stopped: Path
    save_every: int | None = None

    def ledger(self) -> Path:
        """Return the path of the shard's ledger, which exists once the shard is complete."""
        return self.path.with_suffix(".jsonl")

    def journal(self) -> Path:
        """Return the path of the shard's journal."""
        return self.path.with_suffix(".journal")

    def saved_ledgers(self) -> list[Path]:
        """Return the ledgers of the banks that were saved before the shard was complete."""
        return sorted(self.path.parent.glob(f"{self.path.stem}-*.jsonl"))

    def is_visible(self) -> bool:
        """Whether the results of all items are visible here, with the banks of those that are done.

        A shared file system may show files of other machines late, and a ledger before its bank.
        """
        seen: set[str] = set()
        for ledger in [self.ledger(), *self.saved_ledgers()]:
            try:
                entries = read_intact_entries(ledger)
            except InputError:
                continue
            has_bank = ledger.with_suffix(".h5").exists()
            seen.update(entry.id for entry in entries if has_bank or entry.status != "done")
        return seen.issuperset(item.id for item in self.items)


def encode_shard(task: ShardTask) -> None:
    """Encode the items of a shard and write its bank, then its ledger; a bank without a ledger is ignored.

    If an attempt is interrupted (stopped, out of memory, another shard failed), its finished items are saved as a
    separate bank. The next attempt encodes only the others, so a time limit loses at most the unfinished batches.

    Raises:
        InputError: the encoder cannot be loaded, the disk is full, or with on_error="stop" an item cannot be used.
    """
    _Worker(task, loaded_encoder(task.source)).run()


_loaded: dict[str, RowEncoder] = {}


def loaded_encoder(source: RowSource) -> RowEncoder:
    """Load the encoder once per process, for all its shards."""
    key = repr(source)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = source.load()
    return _loaded[key]


def unload_encoder() -> None:
    """Free the encoder of this process and its GPU memory."""
    _loaded.clear()


class _Piece:
    """An unfinished bank with the results of its items.

    Args:
        task: task of the shard.
        encoder: encoder of the rows.
        n_rows: upper bound of the row count, None if unknown.
    """

    def __init__(self, task: ShardTask, encoder: RowEncoder, n_rows: int | None) -> None:
        self._task, self._encoder, self._n_rows = task, encoder, n_rows
        # Unique, also among attempts of a killed run whose cluster jobs continue.
        self.path = task.path.with_name(f"{task.path.stem}-{writer_token()}.h5")
        self.entries: list[Entry] = []
        self._files = ExitStack()
        self._writer: BankWriter | None = None

    def add(self, encoded: EncodedItem) -> tuple[RowFacts, int]:
        """Write the rows of an item; return its facts and its row count."""
        writer = self._opened()
        clock, n_rows = self._task.source.bank_clock(), 0

        def counted() -> Iterator[Rows]:
            nonlocal n_rows
            for block in encoded.blocks:
                n_rows += len(block)
                yield block

        if clock is None or clock.rows_per_second is not None:
            writer.add(encoded.item.id, counted(), duration_s=lambda: encoded.facts().duration_s)
            return encoded.facts(), n_rows
        blocks = list(counted())  # few rows: as many as there are segments or regions
        rows = np.concatenate([block.numpy() if isinstance(block, Tensor) else block for block in blocks])
        facts = encoded.facts()
        writer.add(encoded.item.id, rows, facts.seconds, facts.duration_s)
        return facts, n_rows

    def save(self, path: Path) -> None:
        """Finish the bank, move it to `path`, then write its ledger; without rows only the ledger."""
        if any(entry.status == "done" for entry in self.entries):
            self._files.close()
            self.path.replace(path)
            flush(path.parent)
        else:
            self.discard()
        write_ledger(path.with_suffix(".jsonl"), self.entries)

    def discard(self) -> None:
        """Remove the unfinished bank."""
        error = InterruptedError("discarded")
        self._files.__exit__(type(error), error, None)

    def is_output_error(self, error: BaseException) -> bool:
        """Whether an error is from writing this bank, not from an item."""
        return (
            isinstance(error, InputError)
            and isinstance(error.__cause__, OSError | RuntimeError)
            and str(self.path) in str(error)
        )

    def _opened(self) -> BankWriter:
        """Return the writer, opened at the first item, since an empty bank cannot be written."""
        if self._writer is None:
            source = self._task.source
            self._writer = self._files.enter_context(
                BankWriter(
                    self.path,
                    self._encoder.dim,
                    source.bank_clock(),
                    source.dtype,
                    self._encoder.name,
                    source_attribute(self._task.description, source.key),
                    allow_nonfinite=source.allow_nonfinite,
                    n_rows=self._n_rows,
                )
            )
        return self._writer


class _Worker:
    def __init__(self, task: ShardTask, encoder: RowEncoder) -> None:
        self.task, self.encoder = task, encoder
        self.journal = Journal(task.journal())
        self.started = time.perf_counter()
        self.first: str | None = None
        self.under_way: set[str] = set()
        self.stopping = False
        self._beginning = threading.Lock()

    def run(self) -> None:
        left_out = self.journal.items_to_leave_out()
        saved = self._saved()
        items = [item for item in self.task.items if saved.get(item.id) != item.fingerprint]
        rest = [item for item in items if item.id not in left_out]
        self.piece = _Piece(self.task, self.encoder, self._max_rows(rest))
        try:
            for item in items:
                if item.id in left_out:
                    self._fail(item, left_out[item.id], final=False)
            suspects = self.journal.suspects()
            together = [item for item in rest if item.id not in suspects]
            # Alone, so that another crash is attributed to one item.
            for group in [together, *([item] for item in rest if item.id in suspects)]:
                for encoded in self.encoder.encode(group, self._begin) if group else ():
                    self._encode(encoded)
        except BaseException as error:
            if isinstance(error, Stopped | KeyboardInterrupt):
                self._stop(had_whole_time_limit=None)
            if self.piece.is_output_error(error):
                self.piece.discard()
            elif self.piece.entries:
                self.piece.save(self.piece.path)
            else:
                self.piece.discard()
            raise
        self.piece.save(self.task.path)

    def _saved(self) -> dict[str, str]:
        """Return the fingerprints of the items that earlier attempts saved."""
        found: dict[str, str] = {}
        for ledger in self.task.saved_ledgers():
            for one in read_finished(ledger.with_suffix(".h5"), ledger, self.task.source.key):
                if one.bank is not None:
                    found[one.entry.id] = one.entry.fingerprint
        return found

    def _max_rows(self, items: list[Item]) -> int | None:
        rows = [item.max_rows for item in items]
        known = [count for count in rows if count is not None]
        return sum(known) or None if len(known) == len(rows) and self.task.save_every is None else None

    def _begin(self, item: Item) -> None:
        """Record that an item is about to be read; encoders that read ahead call this from their threads."""
        with self._beginning:
            if item.id not in self.under_way and not self.stopping:
                self.under_way.add(item.id)
                self.journal.begin(item.id)

    def _stop(self, had_whole_time_limit: str | None) -> None:
        """Record that this attempt is stopped, which is not the fault of the items under way."""
        with self._beginning:
            self.stopping = True
            for name in sorted(self.under_way):
                self.journal.stop(name, had_whole_time_limit=name == had_whole_time_limit)
            self.under_way.clear()

    def _encode(self, encoded: EncodedItem) -> None:
        item = encoded.item
        if self.task.stopped.exists():
            raise InputError("stopped, since another shard failed (on_error=stop)")
        self.first = self.first or item.id
        self._begin(item)
        try:
            facts, n_rows = self.piece.add(encoded)
        except (Stopped, KeyboardInterrupt) as error:
            timed_out = isinstance(error, Stopped) and error.at_time_limit
            self._stop(had_whole_time_limit=item.id if timed_out and item.id == self.first else None)
            raise
        except InputError as error:
            if self.piece.is_output_error(error):
                raise
            kind = getattr(error, "kind", "")
            self._fail(item, getattr(error, "reason", str(error)), str(error), kind, final=not _is_temporary(error))
        except (MemoryError, torch.AcceleratorError, torch.OutOfMemoryError):
            raise  # later items would fail on this device too; a new attempt starts in a clean process
        except Exception as error:
            logger.exception("%s", item.id)
            self._fail(item, f"{type(error).__name__}: {error}", final=False)
        else:
            self._record(
                item, "done", facts.note, rows=n_rows, video_s=facts.video_s, corrupt_packets=facts.corrupt_packets
            )
        if self.task.save_every and len(self.piece.entries) >= self.task.save_every:
            self.piece.save(self.piece.path)
            self.piece = _Piece(self.task, self.encoder, None)

    def _fail(self, item: Item, reason: str, message: str = "", kind: str = "", final: bool = True) -> None:
        if self.task.on_error == "stop":
            self.task.stopped.touch()
            message = printable(message or reason)
            raise InputError(f"{self.task.source.noun}: {item.id!r}: {message} (on_error=skip continues without it)")
        self._record(item, "failed", printable(reason), kind=kind, final=final)

    def _record(self, item: Item, status: Status, reason: str, **facts: Any) -> None:
        """Add an entry; its time is the time since the previous entry."""
        before, self.started = self.started, time.perf_counter()
        facts |= {"seconds": round(self.started - before, 3), "settings": self.task.source.key}
        entry = Entry(item.id, status, reason, fingerprint=item.fingerprint, **facts)
        self.piece.entries.append(entry)
        with self._beginning:
            self.under_way.discard(item.id)
            self.journal.finish(entry)


def _is_temporary(error: InputError) -> bool:
    if isinstance(error, UnreachableError):
        return True
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _TEMPORARY
