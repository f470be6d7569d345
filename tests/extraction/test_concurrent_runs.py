"""Several runs that make one bank, and file systems that show files late."""

import os
import threading
import time
from pathlib import Path

import pytest

from clep.bank import FeatureBank
from clep.compute import Local
from clep.compute.locks import file_lock
from clep.extraction import engine
from clep.extraction.engine import shards_folder, wait_for_files
from tests.extraction.conftest import run


@pytest.mark.parametrize("shard", [None, "0/1"])
def test_a_run_of_everything_and_a_part_exclude_each_other(films, tmp_path, encoder, shard):
    out = tmp_path / "features.h5"
    made = threading.Thread(target=run, args=(films, out), kwargs={"shard": shard})
    with file_lock(tmp_path / "features.shards", shared=shard is None):  # as a part holds it, or a run of everything
        made.start()
        time.sleep(0.3)
        assert encoder.clips == 0
    made.join()
    assert len(FeatureBank.open(out)) == 5


def test_parts_run_in_parallel_and_the_last_one_joins(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    made = threading.Thread(target=run, args=(films, out), kwargs={"shard": "0/1", "n_shards": 1})
    with file_lock(tmp_path / "features.shards", shared=True):
        made.start()
        until = time.monotonic() + 20
        while not list(shards_folder(out).glob("*.jsonl")) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        assert list(shards_folder(out).glob("*.jsonl"))
        assert not out.exists()
    made.join()
    assert len(FeatureBank.open(out)) == 5


def test_leftovers_of_killed_runs_are_removed_by_the_next_run(films, tmp_path, encoder):
    out, shards = tmp_path / "features.h5", tmp_path / ".features.shards"
    run(films, out)
    shards.mkdir()
    left = [
        ".features.h5.0123abcd.tmp.h5",
        ".features.h5.0123abcd.tmp.rows",
        ".features.ledger.jsonl.0123abcd.tmp.jsonl",
    ]
    left += [
        ".features.coverage.json.0123abcd.tmp.json",
        ".features.shards/.k-n.0123abcd.tmp.h5",
        ".features.shards/k-n.h5",
    ]
    others = [".features.notes.h5", ".features2.h5.0123abcd.tmp.h5"]
    for name in left + others:
        (tmp_path / name).write_text("half")
    os.utime(shards / "k-n.h5", (0, 0))
    assert run(films, out)["up_to_date"]
    assert [name for name in left + others if (tmp_path / name).exists()] == others


@pytest.mark.parametrize("hidden", ["ledger", "bank"])
def test_a_shard_that_is_not_visible_fails_without_losing_others(films, tmp_path, encoder, monkeypatch, hidden):
    monkeypatch.setattr(engine, "LATE_S", 0.1)
    out, run_tasks = tmp_path / "features.h5", Local.run
    places: list[Path] = []

    def late(self, function, tasks, log_folder, watch=None):
        lost = run_tasks(self, function, tasks, log_folder, watch)
        task = next(iter(tasks.values()))
        places.append(task.path if hidden == "bank" else task.ledger())
        places[0].rename(tmp_path / "hidden")
        return lost

    monkeypatch.setattr(Local, "run", late)
    failed = run(films, out, n_shards=5)["lists"]["failed"]
    assert ["are not visible here" in reason for reason in failed.values()] == [True]
    monkeypatch.setattr(Local, "run", run_tasks)
    (tmp_path / "hidden").rename(places[0])
    encoder.clips = 0
    assert run(films, out)["counts"]["done"] == 5
    assert encoder.clips == 0


def test_files_that_become_visible_within_a_minute_are_used(films, tmp_path, encoder, monkeypatch):
    out, run_tasks = tmp_path / "features.h5", Local.run

    def late(self, function, tasks, log_folder, watch=None):
        lost = run_tasks(self, function, tasks, log_folder, watch)
        shard_path = next(iter(tasks.values())).path
        shard_path.rename(tmp_path / "hidden")
        threading.Timer(0.2, (tmp_path / "hidden").rename, [shard_path]).start()
        return lost

    monkeypatch.setattr(Local, "run", late)
    assert run(films, out, n_shards=5)["counts"]["done"] == 5


def test_a_run_with_on_error_stop_ends_its_own_shards_only(films, tmp_path, encoder):
    out = tmp_path / "features.h5"
    shards_folder(out).mkdir()
    (shards_folder(out) / "key-of-another-run.stopped").touch()
    assert run(films, out, on_error="stop")["counts"]["done"] == 5


def test_a_file_that_becomes_visible_late_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def hidden() -> list[str]:
        looks.append(time.monotonic())
        return ["a"] if len(looks) < 3 else []

    monkeypatch.setattr(engine.time, "sleep", lambda seconds: None)
    assert wait_for_files(hidden, tmp_path) == []
    assert len(looks) == 3


def test_files_that_stay_invisible_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LATE_S", 0.01)
    assert wait_for_files(lambda: ["a", "b"], tmp_path) == ["a", "b"]
    assert wait_for_files(lambda: [], tmp_path / "none") == []
