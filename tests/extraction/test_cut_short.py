"""Attempts and runs that end before they are through: what is kept, and whose fault it is."""

import json
import signal
from dataclasses import replace

import pytest

from clep.bank import FeatureBank
from clep.compute import Stopped
from clep.compute.shutdown import TIME_LIMIT_SIGNAL
from clep.extraction import Extraction, ledger_path, read_ledger
from clep.extraction.engine import shards_folder
from clep.extraction.ledger import Journal
from clep.extraction.listing import VideoItem, list_videos
from clep.extraction.shard import ShardTask, encode_shard
from clep.extraction.videos import VideoItemEncoder, VideoRows
from tests.extraction.conftest import FAKE, run

PREEMPTED, OUT_OF_TIME = Stopped(signal.SIGTERM), Stopped(TIME_LIMIT_SIGNAL)


@pytest.fixture
def task(films, tmp_path) -> ShardTask:
    items = tuple(replace(item, fingerprint=item.compute_fingerprint()) for item in list_videos(films))
    stopped = tmp_path / "stopped"
    rows = VideoRows(Extraction(encoder=FAKE, clip_batch=1), "float16")
    return ShardTask(tmp_path / "s.h5", items, rows, "films", "skip", stopped)


def statuses(ledger) -> dict[str, str]:
    return {entry.id: entry.status for entry in read_ledger(ledger)}


@pytest.mark.parametrize("error", [PREEMPTED, OUT_OF_TIME, KeyboardInterrupt(), MemoryError("no more")])
def test_the_next_attempt_encodes_only_unfinished_items(task, encoder, error):
    encoder.error, encoder.error_after = error, 4  # "a" has three clips, "b" one, and "e" is never through
    with pytest.raises(type(error)):
        encode_shard(task)
    (kept,) = task.saved_ledgers()
    assert statuses(kept) == {"a": "done", "b": "done"}
    assert FeatureBank.open(kept.with_suffix(".h5")).videos == ["a", "b"]
    assert not task.ledger().exists()
    encoder.error, encoder.clips = None, 0
    encode_shard(task)
    assert encoder.clips == 1 + 5 + 2
    assert statuses(task.ledger()) == {"e": "done", "more/c": "done", "more/d": "done"}


@pytest.mark.parametrize("error", [PREEMPTED, KeyboardInterrupt()])
def test_a_stopped_run_continues_to_the_same_bank(films, tmp_path, encoder, error):
    run(films, tmp_path / "whole.h5")
    out = tmp_path / "features.h5"
    for after in (4, 6):
        encoder.error, encoder.error_after, encoder.clips = error, after, 0
        with pytest.raises(type(error)):
            run(films, out, n_shards=1, clip_batch=1)
    encoder.error, encoder.clips = None, 0
    run(films, out, n_shards=1, clip_batch=1)
    assert encoder.clips < 9
    run(films, tmp_path / "one.h5", n_shards=1, clip_batch=1)
    assert out.read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert not shards_folder(out).exists()


def attempts(task: ShardTask, encoder, error: BaseException, count: int) -> None:
    """End so many attempts at the same video: after the clips of those before it, which are kept."""
    for number in range(count):
        encoder.error, encoder.error_after, encoder.clips = error, 0 if number else 3, 0
        with pytest.raises(type(error)):
            encode_shard(task)
    encoder.error = None


def test_a_preemption_does_not_count_against_the_video(task, encoder):
    attempts(task, encoder, PREEMPTED, 5)
    encode_shard(task)
    assert statuses(task.ledger()) == dict.fromkeys(("b", "e", "more/c", "more/d"), "done")


def test_a_time_limit_counts_against_a_video_only_if_it_had_all_the_time(task, encoder):
    attempts(task, encoder, OUT_OF_TIME, 1)
    encode_shard(task)
    assert statuses(task.ledger()) == dict.fromkeys(("b", "e", "more/c", "more/d"), "done")


def test_a_video_longer_than_the_time_limit_is_skipped_named_and_retried_by_the_next_run(task, encoder):
    attempts(task, encoder, OUT_OF_TIME, 2)
    encode_shard(task)
    entries = {entry.id: entry for entry in read_ledger(task.ledger())}
    assert {name: entry.status for name, entry in entries.items()} == {
        **{"b": "failed", "e": "done", "more/c": "done", "more/d": "done"}
    }
    assert entries["b"].reason == "it takes longer than the time limit of a task"
    assert not entries["b"].final


def test_two_videos_longer_than_the_time_limit_are_both_skipped(task, encoder):
    attempts(task, encoder, OUT_OF_TIME, 3)  # after "b" the next, "e", has all the time
    encode_shard(task)
    assert statuses(task.ledger()) == {"b": "failed", "e": "failed", "more/c": "done", "more/d": "done"}


def test_a_video_that_repeatedly_kills_its_worker_is_skipped(task, encoder):
    with task.journal().open("w") as file:
        for line in ({"begins": "a"}, {"begins": "b"}, {"id": "b", "status": "done"}, {"begins": "a"}):
            file.write(json.dumps(line) + "\n")
    encode_shard(task)
    entries = {entry.id: entry for entry in read_ledger(task.ledger())}
    assert (entries["a"].status, entries["a"].final) == ("failed", False)
    assert "2 attempts" in entries["a"].reason
    assert FeatureBank.open(task.path).videos == [item.id for item in task.items if item.id != "a"]


def test_videos_that_were_under_way_at_a_crash_are_encoded_alone_and_last(task, encoder, monkeypatch):
    with task.journal().open("w") as file:
        for name in ("a", "b", "e"):
            file.write(json.dumps({"begins": name}) + "\n")
    groups, encode = [], VideoItemEncoder.encode

    def counted(self, items, begin):
        groups.append([item.id for item in items])
        return encode(self, items, begin)

    monkeypatch.setattr(VideoItemEncoder, "encode", counted)
    encode_shard(task)
    assert groups == [["more/c", "more/d"], ["a"], ["b"], ["e"]]
    assert sorted(FeatureBank.open(task.path).videos) == [item.id for item in task.items]


def test_a_stop_does_not_count_against_videos_that_were_read_ahead(task, encoder):
    attempts(task, encoder, PREEMPTED, 2)
    assert Journal(task.journal()).suspects() == set()


def test_finished_items_of_a_failed_shard_are_kept(films, tmp_path, encoder):
    encoder.error, encoder.error_after = MemoryError("no more"), 4
    out, compute = tmp_path / "features.h5", {"_target_": "clep.compute.Local", "retries": 0}
    coverage = run(films, out, n_shards=1, clip_batch=1, compute=compute)
    assert FeatureBank.open(out).videos == ["a", "b"]
    assert set(coverage["lists"]["failed"]) == {"e", "more/c", "more/d"}
    encoder.error, encoder.clips = None, 0
    assert run(films, out, clip_batch=1)["counts"]["done"] == 5
    assert encoder.clips == 1 + 5 + 2


def test_a_file_that_is_replaced_while_it_is_encoded_is_encoded_again(films, tmp_path, encoder, monkeypatch):
    forward, taken = type(encoder).forward, []
    fingerprint = VideoItem.compute_fingerprint
    monkeypatch.setattr(VideoItem, "compute_fingerprint", lambda item: taken.append(item.id) or fingerprint(item))

    def replaces(self, pixels):
        (films / "b.mp4").write_bytes((films / "more" / "c.mp4").read_bytes())
        return forward(self, pixels)

    monkeypatch.setattr(type(encoder), "forward", replaces)
    out = tmp_path / "features.h5"
    run(films, out, ids=["a", "b"], n_shards=1)
    assert sorted(taken) == ["a", "b", "e", "more/c", "more/d"], "each file is looked at once"
    monkeypatch.setattr(type(encoder), "forward", forward)
    run(films, out, ids=["a", "b"])
    bank = FeatureBank.open(out)
    assert len(bank.video_rows("b")) == 5
    assert statuses(ledger_path(out)) == {"a": "done", "b": "done"}
