"""Encode videos into one bank: find what is missing, cut it into shards, run them, join them, keep the ledger."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from math import ceil, isnan
from pathlib import Path
from typing import Any

import numpy as np

from clep.bank import BankWriter, FeatureBank, copy_video
from clep.compute import cut_into_shards
from clep.errors import InputError
from clep.files import atomic_path
from clep.preprocess.alone import alone
from clep.preprocess.coverage import Coverage
from clep.preprocess.extraction.finished import (
    Finished,
    finished_videos,
    forget_unfinished,
    shard_path,
    shards_folder,
    source_words,
)
from clep.preprocess.extraction.items import (
    VideoItem,
    chosen,
    file_name,
    first_of_each,
    parse_part,
    part_of,
    with_durations,
)
from clep.preprocess.extraction.ledger import Entry, ledger_path, write_ledger
from clep.preprocess.extraction.progress import Watcher, progress_bar, show
from clep.preprocess.extraction.settings import Extraction
from clep.preprocess.extraction.shard import ShardTask, extract_shard
from clep.preprocess.feature_packing import Dtype, OnError

logger = logging.getLogger(__name__)

SHARD_HOURS = 0.5
FEWEST_SHARDS = 8
UNKNOWN_S = 60.0


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

    Only what is missing is encoded: a video whose file is as it was, with the same settings, is taken from the bank or
    from a whole shard of an earlier run, and a file that could not be decoded is not tried again until it changes.

    Args:
        job: name of the job, for the coverage.
        items: the videos; of several with one id the first counts.
        output: the bank to write; `.ledger.jsonl` and `.coverage.json` go beside it.
        extraction: how they are encoded.
        source: words about where the videos come from, kept in the bank.
        dtype: number format of the bank.
        on_error: "skip" lists a video that cannot be used and goes on, "stop" ends at the first.
        overwrite: encode everything anew.
        skipped: ids that have nothing to decode, with the reason; they go into the ledger.

    Returns:
        The coverage; its lists hold every video that is not in the bank, with the reason. With `shard=i/n` and
        other parts still missing: counts of this part, under "waiting_for" how many videos.

    Raises:
        InputError: not one video could be encoded, an option is wrong, the disk is full, or with on_error="stop" a
            video cannot be used.
    """
    return _Run(job, items, Path(output), Extraction.of(extraction), source, dtype, on_error, skipped or {}).run(
        overwrite
    )


class _Run:
    def __init__(
        self,
        job: str,
        items: Iterable[VideoItem],
        output: Path,
        settings: Extraction,
        source: str,
        dtype: Dtype,
        on_error: OnError,
        skipped: Mapping[str, str],
    ) -> None:
        self.items, again = first_of_each(items)
        self.skipped = {name: Entry(name, "skipped", reason) for name, reason in skipped.items()}
        self.again = again
        self.output, self.settings, self.dtype, self.on_error = output, settings, dtype, on_error
        self.key = settings.key(dtype)
        self.source = source_words(source, self.key)
        self.part = parse_part(settings.shard)
        described = {"encoder": str(settings.encoder.get("_target_", "")).rpartition(".")[2], "settings": self.key}
        sizes = blake2b(repr([(item.id, item.file_bytes()) for item in self.items]).encode(), digest_size=16)
        self.coverage = Coverage(job, output, sizes.hexdigest(), described)

    def run(self, overwrite: bool) -> dict[str, Any]:
        if not self.items:
            self._write_ledger({})
            raise InputError(f"{self.output} was not written: there is no video to encode{self._first(self.skipped)}")
        selected = chosen(self.items, self.settings.ids, self.settings.limit)
        if overwrite:
            forget_unfinished(self.output, None)
        elif self.part is None:
            forget_unfinished(self.output, self.key)
        known = {} if overwrite else self._known()
        if self.part is not None:
            selected = part_of(with_durations(selected), self.part)
        missing = [item for item in selected if item.id not in known]
        if not missing and self.part is None and self._is_joined(known):
            done = self.coverage.last_run(FeatureBank.open)
            if done is not None:
                self._write_npy(known, anew=False)
                logger.info("%s is up to date", self.output)
                return done | {"up_to_date": True}
        started = time.perf_counter()
        unfinished = self._encode(missing) if missing else {}
        known = self._known(unfinished)
        seconds = time.perf_counter() - started
        if self.part is None:
            return self._finish(known, seconds)
        waiting = [item for item in chosen(self.items, self.settings.ids, self.settings.limit) if item.id not in known]
        if waiting:
            logger.info("part %s is done; %d videos of other parts are missing yet", self.settings.shard, len(waiting))
            return {"part": self.settings.shard, "videos": len(selected), "waiting_for": len(waiting)}
        with alone(self.output):
            return self._finish(self._known(unfinished), seconds)

    def _known(self, unfinished: Mapping[str, Finished] | None = None) -> dict[str, Finished]:
        """Return what is done, or known not to be possible, of the files as they lie there now."""
        found = finished_videos(self.output, self.key) | dict(unfinished or {})
        sizes = {item.id: item.file_bytes() for item in self.items}
        fresh = bool(unfinished is not None)

        def counts(name: str, entry: Entry) -> bool:
            if sizes.get(name) != entry.file_bytes:
                return False
            return entry.status == "done" or fresh or (entry.final and not self.settings.retry_failed)

        return {name: one for name, one in found.items() if counts(name, one.entry)}

    def _is_joined(self, known: Mapping[str, Finished]) -> bool:
        return self.output.exists() and all(one.bank in (None, self.output) for one in known.values())

    def _encode(self, missing: Sequence[VideoItem]) -> dict[str, Finished]:
        """Run the shards; return what became of videos whose shard never came through."""
        by_id = {item.id: item for item in with_durations(missing)}
        tasks: dict[str, ShardTask] = {}
        for ids in cut_into_shards({name: item.duration_s for name, item in by_id.items()}, self._n_shards(by_id)):
            name = blake2b("\0".join(ids).encode(), digest_size=6).hexdigest()
            tasks[name] = ShardTask(
                shard_path(self.output, self.key, name),
                tuple(by_id[video] for video in ids),
                self.settings,
                self.dtype,
                self.source,
                self.on_error,
            )
        for task in tasks.values():  # an earlier run that was stopped says nothing about the videos
            task.journal().unlink(missing_ok=True)
        compute = self.settings.make_compute()
        watcher = Watcher([task.journal() for task in tasks.values()])
        with progress_bar(watcher, len(by_id)) as bar:
            lost = compute.run(extract_shard, tasks, shards_folder(self.output) / "logs", lambda: show(bar, watcher))
        logger.info("%d videos through, %.0f hours of video per hour", len(watcher.through), watcher.hours_per_hour())
        if lost and self.on_error == "stop":
            raise InputError(next(iter(lost.values())))
        for reason in dict.fromkeys(lost.values()):
            shards = [name for name, why in lost.items() if why == reason]
            count = sum(len(tasks[name].items) for name in shards)
            logger.error("%d videos were not encoded (shards %s): %s", count, ", ".join(shards), reason)
        return {
            item.id: Finished(Entry(item.id, "failed", reason, file_bytes=item.file_bytes(), final=False), None)
            for name, reason in lost.items()
            for item in tasks[name].items
        }

    def _n_shards(self, items: Mapping[str, VideoItem]) -> int:
        if self.settings.n_shards is not None:
            return self.settings.n_shards
        known_s = [UNKNOWN_S if isnan(item.duration_s) else item.duration_s for item in items.values()]
        return max(FEWEST_SHARDS, ceil(sum(known_s) / 3600 / SHARD_HOURS))

    def _finish(self, known: dict[str, Finished], seconds: float) -> dict[str, Any]:
        self._write_ledger(known)
        done = {name: one for name, one in known.items() if one.bank is not None}
        if not done:
            failed = {name: one.entry for name, one in known.items()}
            raise InputError(
                f"{self.output} was not written: not one of {len(self.items)} videos could be encoded"
                f"{self._first(failed)}; all reasons: {ledger_path(self.output)}"
            )
        if not self._is_joined(known) or set(FeatureBank.open(self.output).videos) != set(done):
            self.coverage.forget_last_run()
            self._join(done)
        self._write_npy(done, anew=True)
        if not any(one.entry.status == "failed" and not one.entry.final for one in known.values()):
            forget_unfinished(self.output, None)
        return self._cover(known, seconds)

    def _join(self, done: Mapping[str, Finished]) -> None:
        banks = {path: FeatureBank.open(path) for path in {one.bank for one in done.values()} if path is not None}
        first = next(iter(banks.values()))
        with BankWriter(
            self.output,
            first.dim,
            self.settings.clock(),
            self.dtype,
            first.encoder,
            self.source,
            n_rows=sum(one.entry.rows for one in done.values()),
        ) as writer:
            for name in sorted(done):
                bank = done[name].bank
                assert bank is not None
                copy_video(banks[bank], name, writer)

    def _write_npy(self, known: Mapping[str, Finished], anew: bool) -> None:
        """Write a `.npy` file a video where that is asked for; with `anew` also over those that are there."""
        if self.settings.format != "npy":
            return
        bank = FeatureBank.open(self.output)
        for name in (name for name, one in known.items() if one.bank is not None):
            path = self.output.with_name(f"{self.output.stem}_npy") / f"{file_name(name)}.npy"
            if anew or not path.exists():
                with atomic_path(path) as temporary:
                    np.save(temporary, bank.video_rows(name).numpy(), allow_pickle=False)

    def _write_ledger(self, known: Mapping[str, Finished]) -> None:
        entries = {name: one.entry for name, one in known.items()} | self.skipped
        again = [Entry(name, "skipped", reason) for name, reason in self.again.items()]
        write_ledger(ledger_path(self.output), [*(entries[name] for name in sorted(entries)), *again])

    def _cover(self, known: Mapping[str, Finished], seconds: float) -> dict[str, Any]:
        entries = [one.entry for one in known.values()]
        done = [entry for entry in entries if entry.status == "done"]
        bank = FeatureBank.open(self.output)
        video_s = sum(entry.video_s or 0.0 for entry in done)
        self.coverage.count(
            videos=len(self.items),
            done=len(done),
            rows=bank.n_rows,
            dim=bank.dim,
            encoder=bank.encoder,
            hours_of_video=round(video_s / 3600, 3),
            seconds_of_encoding=round(seconds, 1),
        )
        self.coverage.add_list("failed", {e.id: e.reason for e in entries if e.status == "failed"})
        self.coverage.add_list("skipped", {name: entry.reason for name, entry in self.skipped.items()})
        self.coverage.add_list("named_twice", self.again)
        corrupt = {e.id: f"{e.corrupt_packets} packets" for e in done if e.corrupt_packets}
        self.coverage.add_list("with_corrupt_packets", corrupt)
        waiting = [item.id for item in self.items if item.id not in known]
        self.coverage.add_list("not_asked_for", waiting)
        return self.coverage.write() | {"up_to_date": False}

    @staticmethod
    def _first(entries: Mapping[str, Entry]) -> str:
        for name, entry in entries.items():
            return f"; the first, {name!r}: {entry.reason}"
        return ""
