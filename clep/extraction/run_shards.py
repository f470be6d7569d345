"""What is missing cut into shards, and these run on this machine or a cluster."""

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil, isnan
from pathlib import Path

from clep.compute import cut_into_shards, wait_for_files
from clep.errors import InputError
from clep.extraction.feature_packing import Dtype, OnError
from clep.extraction.finished import Finished, shard_path, shards_folder, shows
from clep.extraction.items import VideoItem, with_durations
from clep.extraction.ledger import Entry
from clep.extraction.progress import Watcher, progress_bar, show
from clep.extraction.settings import Extraction
from clep.extraction.shard import ShardTask, check_encoder, extract_shard

logger = logging.getLogger(__name__)

SHARD_HOURS = 0.5
FEWEST_SHARDS, MOST_SHARDS = 8, 500
UNKNOWN_S = 60.0
LATE = "its worker was done, but its files do not show here; run again"


@dataclass(frozen=True)
class Shards:
    """How the shards of one bank are made.

    Attributes:
        output: the bank.
        settings: how videos are encoded.
        key: digest of what decides the rows.
        dtype: number format of the rows.
        source: words kept in the bank.
        on_error: "stop" ends all shards at the first video that cannot be used.
    """

    output: Path
    settings: Extraction
    key: str
    dtype: Dtype
    source: str
    on_error: OnError

    def run(self, missing: Sequence[VideoItem]) -> dict[str, Finished]:
        """Encode videos, whose items have fingerprints; return what became of those whose shard did not come through.

        Raises:
            InputError: the encoder cannot be loaded, an option is wrong, or with on_error="stop" a video cannot be
                used.
        """
        compute = self.settings.make_compute()
        check_encoder(self.settings, compute)
        stopped = shards_folder(self.output) / f"{self.key}-{uuid.uuid4().hex[:8]}.stopped"
        items = with_durations(missing)
        tasks = self._tasks(items, stopped)
        for task in tasks.values():  # an earlier run that was stopped says nothing about the videos
            task.journal().unlink(missing_ok=True)
        watcher = Watcher([task.journal() for task in tasks.values()])
        try:
            with progress_bar(watcher, len(items)) as bar:
                lost = compute.run(
                    extract_shard, tasks, shards_folder(self.output) / "logs", lambda: show(bar, watcher)
                )
        finally:
            stopped.unlink(missing_ok=True)
        rate = watcher.hours_per_hour()
        logger.info("%d videos finished, %.0f hours of video per hour", len(watcher.through), rate)
        if lost and self.on_error == "stop":
            raise InputError(next((why for why in lost.values() if "on_error" in why), next(iter(lost.values()))))
        late = wait_for_files(
            lambda: [name for name, task in tasks.items() if name not in lost and not shows(task.path)],
            shards_folder(self.output),
        )
        return self._lost(tasks, lost | dict.fromkeys(late, LATE))

    def _tasks(self, items: Iterable[VideoItem], stopped: Path) -> dict[str, ShardTask]:
        by_id = {item.id: item for item in items}
        tasks: dict[str, ShardTask] = {}
        for ids in cut_into_shards({name: item.duration_s for name, item in by_id.items()}, self._n_shards(by_id)):
            # The files' fingerprints are part of the name: a replaced file makes another shard.
            said = "\0".join(f"{video} {by_id[video].file}" for video in ids)
            name = blake2b(said.encode(errors="backslashreplace"), digest_size=6).hexdigest()
            tasks[name] = ShardTask(
                shard_path(self.output, self.key, name),
                tuple(by_id[video] for video in ids),
                self.settings,
                self.key,
                self.dtype,
                self.source,
                self.on_error,
                stopped,
            )
        return tasks

    def _n_shards(self, items: Mapping[str, VideoItem]) -> int:
        if self.settings.n_shards is not None:
            return self.settings.n_shards
        known_s = [UNKNOWN_S if isnan(item.duration_s) else item.duration_s for item in items.values()]
        return min(MOST_SHARDS, max(FEWEST_SHARDS, ceil(sum(known_s) / 3600 / SHARD_HOURS)))

    def _lost(self, tasks: Mapping[str, ShardTask], lost: Mapping[str, str]) -> dict[str, Finished]:
        for reason in dict.fromkeys(lost.values()):
            shards = [name for name, why in lost.items() if why == reason]
            count = sum(len(tasks[name].items) for name in shards)
            logger.error("shards %s with %d videos did not come through: %s", ", ".join(shards), count, reason)
        return {
            item.id: Finished(Entry(item.id, "failed", reason, file=item.file, settings=self.key, final=False), None)
            for name, reason in lost.items()
            for item in tasks[name].items
        }
