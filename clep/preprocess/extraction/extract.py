"""Encode videos into one bank: find what is missing, cut it into shards, run them, join them, keep the ledger."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import ceil, isnan
from pathlib import Path
from typing import Any

from clep.bank import FeatureBank
from clep.compute import cut_into_shards
from clep.errors import InputError
from clep.preprocess.alone import alone
from clep.preprocess.coverage import Coverage
from clep.preprocess.extraction.finished import (
    Finished,
    finished_videos,
    forget_other_settings,
    forget_shards,
    late_ledgers,
    shard_path,
    shards_folder,
    source_words,
    whole_shards,
)
from clep.preprocess.extraction.items import (
    VideoItem,
    chosen,
    fingerprints,
    first_of_each,
    parse_part,
    part_of,
    with_durations,
)
from clep.preprocess.extraction.join import join, write_npy
from clep.preprocess.extraction.ledger import Entry, ledger_path, write_ledger
from clep.preprocess.extraction.progress import Watcher, progress_bar, show
from clep.preprocess.extraction.settings import Extraction
from clep.preprocess.extraction.shard import ShardTask, check_encoder, extract_shard
from clep.preprocess.feature_packing import Dtype, OnError

logger = logging.getLogger(__name__)

SHARD_HOURS = 0.5
FEWEST_SHARDS, MOST_SHARDS = 8, 500
UNKNOWN_S = 60.0
LATE = "its worker was done, but its files do not show here; run again"


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
    Videos of the bank whose files are gone, or that are not asked for this time, stay in it.

    Args:
        job: name of the job, for the coverage.
        items: the videos; of several with one id the first counts.
        output: the bank to write, `.h5`; `.ledger.jsonl` and `.coverage.json` go beside it.
        extraction: how they are encoded.
        source: words about where the videos come from, kept in the bank.
        dtype: number format of the bank.
        on_error: "skip" lists a video that cannot be used and goes on, "stop" ends at the first.
        overwrite: encode everything anew; the bank then holds what was asked for and nothing else.
        skipped: ids that have nothing to decode, with the reason; they go into the ledger.

    Returns:
        The coverage; its lists hold every video that is not in the bank, with the reason. With `shard=i/n` and
        other parts still missing: counts of this part, under "waiting_for" how many videos.

    Raises:
        InputError: not one video could be encoded, an option is wrong, the disk is full, or with on_error="stop" a
            video cannot be used.
    """
    run = _Run(job, items, Path(output), Extraction.of(extraction), source, dtype, on_error, skipped or {})
    return run.run(overwrite)


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
        if output.suffix != ".h5" or output.is_dir():
            raise InputError(f"output={output} must be a file that ends in .h5")
        self.output = output
        self.items, self.again = first_of_each(items)
        self.skipped = dict(skipped)
        self.settings, self.dtype, self.on_error = settings, dtype, on_error
        self.key = settings.key(dtype)
        self.source = source_words(source, self.key)
        self.part = parse_part(settings.shard)
        self.files = fingerprints(self.items)
        described = {"encoder": str(settings.encoder.get("_target_", "")).rpartition(".")[2], "settings": self.key}
        inputs = blake2b(repr([sorted(self.files.items()), sorted(self.skipped)]).encode(), digest_size=16)
        self.coverage = Coverage(job, self.output, inputs.hexdigest(), described)

    def run(self, overwrite: bool) -> dict[str, Any]:
        if overwrite and self.part is not None:
            raise InputError("overwrite=true with shard=… would throw other parts away; remove the output first")
        asked = chosen(self.items, self.settings.ids, self.settings.limit)
        known = {} if overwrite else self._known()
        if not self.items and not known:
            raise InputError(f"{self.output} was not written: there is no video to encode{_first(self.skipped)}")
        mine = asked if self.part is None else part_of(with_durations(asked), self.part)
        missing = [item for item in mine if not self._is_settled(known.get(item.id))]
        self._stop_at_known_failures(mine, known)
        if not missing and self.part is None and self._is_joined(known):
            done = self.coverage.last_run(FeatureBank.open)
            if done is not None:
                if self.settings.format == "npy":
                    write_npy(self.output)
                logger.info("%s is up to date", self.output)
                return done | {"up_to_date": True}
        started = time.perf_counter()
        if overwrite:
            forget_shards(self.output, whole_shards(self.output, self.key))
        lost = self._encode(missing) if missing else {}
        seconds = time.perf_counter() - started
        if self.part is None:
            return self._finish(self._known(not overwrite) | lost, asked, seconds)
        known = self._known() | lost
        waiting = [item.id for item in asked if item.id not in known]
        if waiting:
            return self._part_done(mine, known, waiting)
        with alone(self.output):
            return self._finish(self._known() | lost, asked, seconds)

    def _known(self, joined: bool = True) -> dict[str, Finished]:
        """Return what earlier runs and the shards of this one settled, of any video that was ever in the bank."""
        return finished_videos(self.output, self.key, self.files, joined)

    def _is_settled(self, one: Finished | None) -> bool:
        """Whether there is nothing to do about a video: its file is done, or known to be bad."""
        if one is None or one.entry.file != self.files[one.entry.id]:
            return False
        return one.entry.status == "done" or (one.entry.final and not self.settings.retry_failed)

    def _is_joined(self, known: Mapping[str, Finished]) -> bool:
        return self.output.exists() and all(one.bank in (None, self.output) for one in known.values())

    def _stop_at_known_failures(self, items: Sequence[VideoItem], known: Mapping[str, Finished]) -> None:
        if self.on_error == "skip":
            return
        for item in items:
            one = known.get(item.id)
            if one is not None and one.entry.status == "failed" and self._is_settled(one):
                raise InputError(f"video {item.id!r}: {one.entry.reason} (on_error=skip goes on without it)")

    def _encode(self, missing: Sequence[VideoItem]) -> dict[str, Finished]:
        """Run the shards; return what became of videos whose shard never came through."""
        compute = self.settings.make_compute()
        check_encoder(self.settings, compute)
        by_id = {item.id: item for item in with_durations(missing)}
        tasks: dict[str, ShardTask] = {}
        for ids in cut_into_shards({name: item.duration_s for name, item in by_id.items()}, self._n_shards(by_id)):
            # The files' fingerprints are part of the name: a replaced file makes another shard.
            said = "\0".join(f"{video} {self.files[video]}" for video in ids)
            name = blake2b(said.encode(errors="backslashreplace"), digest_size=6).hexdigest()
            tasks[name] = ShardTask(
                shard_path(self.output, self.key, name),
                tuple(by_id[video] for video in ids),
                self.settings,
                self.key,
                self.dtype,
                self.source,
                self.on_error,
            )
        for task in tasks.values():  # an earlier run that was stopped says nothing about the videos
            task.journal().unlink(missing_ok=True)
            task.stopped().unlink(missing_ok=True)
        watcher = Watcher([task.journal() for task in tasks.values()])
        with progress_bar(watcher, len(by_id)) as bar:
            lost = compute.run(extract_shard, tasks, shards_folder(self.output) / "logs", lambda: show(bar, watcher))
        rate = watcher.hours_per_hour()
        logger.info("%d videos finished, %.0f hours of video per hour", len(watcher.through), rate)
        if lost and self.on_error == "stop":
            raise InputError(next((why for why in lost.values() if "on_error" in why), next(iter(lost.values()))))
        lost |= dict.fromkeys(late_ledgers({name: t.ledger() for name, t in tasks.items() if name not in lost}), LATE)
        for reason in dict.fromkeys(lost.values()):
            shards = [name for name, why in lost.items() if why == reason]
            count = sum(len(tasks[name].items) for name in shards)
            logger.error("%d videos were not encoded (shards %s): %s", count, ", ".join(shards), reason)
        return {
            item.id: Finished(self._lost(item.id, reason), None)
            for name, reason in lost.items()
            for item in tasks[name].items
        }

    def _lost(self, video: str, reason: str) -> Entry:
        return Entry(video, "failed", reason, file=self.files[video], settings=self.key, final=False)

    def _n_shards(self, items: Mapping[str, VideoItem]) -> int:
        if self.settings.n_shards is not None:
            return self.settings.n_shards
        known_s = [UNKNOWN_S if isnan(item.duration_s) else item.duration_s for item in items.values()]
        return min(MOST_SHARDS, max(FEWEST_SHARDS, ceil(sum(known_s) / 3600 / SHARD_HOURS)))

    def _part_done(
        self, mine: Sequence[VideoItem], known: Mapping[str, Finished], waiting: Sequence[str]
    ) -> dict[str, Any]:
        failed = {item.id: known[item.id].entry.reason for item in mine if known[item.id].entry.status == "failed"}
        for name, reason in failed.items():
            logger.warning("video %r failed: %s", name, reason)
        if mine and len(failed) == len(mine):
            raise InputError(
                f"part {self.settings.shard}: not one of {len(mine)} videos could be encoded{_first(failed)}"
            )
        logger.info("part %s is done; %d videos of other parts are missing yet", self.settings.shard, len(waiting))
        return {"part": self.settings.shard, "videos": len(mine), "failed": failed, "waiting_for": len(waiting)}

    def _finish(self, known: dict[str, Finished], asked: Sequence[VideoItem], seconds: float) -> dict[str, Any]:
        done = {name: one for name, one in known.items() if one.bank is not None}
        if not done:
            failed = {name: one.entry.reason for name, one in known.items()}
            where = ""
            if not self.output.exists():  # the ledger of a bank is not replaced by that of a run that made none
                self._write_ledger(known)
                where = f"; all reasons: {ledger_path(self.output)}"
            raise InputError(
                f"{self.output} was not written: not one of {len(asked)} videos could be encoded{_first(failed)}{where}"
            )
        joined = {one.bank for one in done.values() if one.bank is not None} - {self.output}
        if not self._is_joined(known) or set(FeatureBank.open(self.output).videos) != set(done):
            self.coverage.forget_last_run()
            join(done, self.output, self.settings.clock(), self.dtype, self.source)
        self._write_ledger(known)
        if self.settings.format == "npy":
            write_npy(self.output)
        forget_shards(self.output, joined | {bank for bank in whole_shards(self.output, self.key) if not bank.exists()})
        forget_other_settings(self.output, self.key)
        return self._cover(known, asked, seconds)

    def _write_ledger(self, known: Mapping[str, Finished]) -> None:
        entries = {name: Entry(name, "skipped", reason) for name, reason in self.skipped.items()}
        for name, one in known.items():
            reason = "; ".join(filter(None, (one.entry.reason, self.again.get(name, ""))))
            entries[name] = replace(one.entry, reason=reason)
        write_ledger(ledger_path(self.output), [entries[name] for name in sorted(entries)])

    def _cover(self, known: Mapping[str, Finished], asked: Sequence[VideoItem], seconds: float) -> dict[str, Any]:
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
        ids = {item.id for item in asked}
        self.coverage.add_list("failed", {name: e.reason for name, e in entries.items() if e.status == "failed"})
        self.coverage.add_list("skipped", {name: why for name, why in self.skipped.items() if name not in entries})
        self.coverage.add_list("named_twice", self.again)
        corrupt = {entry.id: f"{entry.corrupt_packets} packets" for entry in done if entry.corrupt_packets}
        self.coverage.add_list("with_corrupt_packets", corrupt)
        self.coverage.add_list("done_with_a_note", {entry.id: entry.reason for entry in done if entry.reason})
        self.coverage.add_list("kept_without_a_file", [entry.id for entry in done if entry.id not in self.files])
        self.coverage.add_list("not_asked_for", [name for name in self.files if name not in ids])
        return self.coverage.write() | {"up_to_date": False}


def _first(reasons: Mapping[str, str]) -> str:
    for name, reason in reasons.items():
        return f"; the first, {name!r}: {reason}"
    return ""
