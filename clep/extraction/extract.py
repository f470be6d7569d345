"""Encode videos into one bank: find what is missing, cut it into shards, run them, join them, keep the ledger."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from clep.bank import FeatureBank
from clep.compute.locks import file_lock
from clep.errors import InputError
from clep.extraction.coverage import Coverage
from clep.extraction.feature_packing import Dtype, OnError
from clep.extraction.finished import (
    Finished,
    finished_videos,
    forget_leftovers,
    forget_other_settings,
    forget_shards,
    is_settled,
    shows,
    source_words,
    whole_shards,
)
from clep.extraction.items import (
    VideoItem,
    chosen,
    fingerprints,
    first_of_each,
    parse_part,
    part_of,
    with_durations,
)
from clep.extraction.join import join, write_npy
from clep.extraction.ledger import Entry, ledger_path, write_ledger
from clep.extraction.run_shards import Shards
from clep.extraction.settings import Extraction

logger = logging.getLogger(__name__)

UNACCOUNTED = "no worker said what became of it; run again"


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


@dataclass(frozen=True)
class _Encoded:
    lost: dict[str, Finished]
    seconds: float


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
        coverage = self._run(overwrite)
        if self.settings.format == "npy" and "waiting_for" not in coverage:
            write_npy(self.output)
        return coverage

    def _run(self, overwrite: bool) -> dict[str, Any]:
        """Parts work side by side; whoever joins, and a run of everything, works alone."""
        asked = chosen(self.items, self.settings.ids, self.settings.limit)
        work = self.output.with_name(f"{self.output.stem}.shards")
        with file_lock(work, shared=self.part is not None):
            if self.part is None:
                forget_leftovers(self.output)
            done = self._encode(asked, overwrite)
            if isinstance(done, dict):
                return done
            if self.part is None:
                return self._finish(self._known(not overwrite, done.lost), asked, done.seconds)
        with file_lock(work):
            forget_leftovers(self.output)
            return self._finish(self._known(lost=done.lost), asked, done.seconds)

    def _encode(self, asked: Sequence[VideoItem], overwrite: bool) -> "dict[str, Any] | _Encoded":
        """Encode what is missing; return the coverage where there is nothing more to do."""
        known = {} if overwrite else self._known()
        if not self.items and not known:
            raise InputError(f"{self.output} was not written: there is no video to encode{_first(self.skipped)}")
        mine = asked if self.part is None else part_of(with_durations(asked), self.part)
        missing = [replace(item, file=self.files[item.id]) for item in mine if not self._is_settled(known.get(item.id))]
        self._stop_at_known_failures(mine, known)
        if not missing and self.part is None and self._is_joined(known):
            last = self.coverage.last_run(FeatureBank.open)
            if last is not None:
                logger.info("%s is up to date", self.output)
                return last | {"up_to_date": True}
        started = time.perf_counter()
        if overwrite:
            forget_shards(self.output, whole_shards(self.output, self.key))
        shards = Shards(self.output, self.settings, self.key, self.dtype, self.source, self.on_error)
        lost = shards.run(missing) if missing else {}
        done = _Encoded(lost, time.perf_counter() - started)
        if self.part is None:
            return done
        known = self._accounted(mine, self._known(lost=lost))
        waiting = [item.id for item in asked if item.id not in known]
        return self._part_done(mine, known, waiting) if waiting else done

    def _known(self, joined: bool = True, lost: Mapping[str, Finished] | None = None) -> dict[str, Finished]:
        """Return what earlier runs and the shards of this one settled, of any video that was ever in the bank.

        What a shard that did not come through had done before counts too.
        """
        known = finished_videos(self.output, self.key, self.files, joined)
        return known | {name: one for name, one in (lost or {}).items() if not self._is_settled(known.get(name))}

    def _accounted(self, items: Sequence[VideoItem], known: Mapping[str, Finished]) -> dict[str, Finished]:
        """Add a failure for videos of which nothing is known, so that none goes missing without a word."""
        silent = [item.id for item in items if item.id not in known]
        entries = [Entry(name, "failed", UNACCOUNTED, settings=self.key, final=False) for name in silent]
        return {entry.id: Finished(entry, None) for entry in entries} | dict(known)

    def _is_settled(self, one: Finished | None) -> bool:
        return one is not None and is_settled(one, self.files.get(one.entry.id, ""), self.settings.retry_failed)

    def _is_joined(self, known: Mapping[str, Finished]) -> bool:
        return self.output.exists() and all(one.bank in (None, self.output) for one in known.values())

    def _stop_at_known_failures(self, items: Sequence[VideoItem], known: Mapping[str, Finished]) -> None:
        if self.on_error == "skip":
            return
        for item in items:
            one = known.get(item.id)
            if one is not None and one.entry.status == "failed" and self._is_settled(one):
                raise InputError(f"video {item.id!r}: {one.entry.reason} (on_error=skip goes on without it)")

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
        known = self._accounted(asked, known)
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
        without_rows = {bank for bank in whole_shards(self.output, self.key) if shows(bank) and not bank.exists()}
        forget_shards(self.output, joined | without_rows)
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
