"""Tasks in this process and on workers; the tasks are in `tasks.py`, where a worker can import them."""

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from clep.compute import Local, local
from clep.errors import InputError

from . import tasks

pytestmark = pytest.mark.waits
ROOT = Path(__file__).parents[2]


def payloads(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / f"{name}.json" for name in names}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.mark.parametrize("processes", [1, 2])
def test_every_task_runs_once(tmp_path: Path, logs: Path, processes: int) -> None:
    given = payloads(tmp_path, *(f"work-{number}" for number in range(6)))
    assert Local(processes=processes).run(tasks.work, given, logs) == {}
    runs = [tasks.pids(path) for path in given.values()]
    assert all(len(run) == 1 for run in runs)
    workers = {run[0] for run in runs}
    assert workers == {os.getpid()} if processes == 1 else len(workers) <= 2 and os.getpid() not in workers


@pytest.mark.parametrize("processes", [1, 2])
def test_failures_are_retried_and_named(tmp_path: Path, logs: Path, processes: int) -> None:
    given = payloads(tmp_path, "work", "fail", "refuse", "leave", "work-2")
    failed = Local(processes=processes, retries=2).run(tasks.by_name, given, logs)
    assert failed["fail"].startswith("ArithmeticError: no luck")
    assert failed["refuse"] == "the video is not one"
    assert "status 3" in failed["leave"]
    assert set(failed) == {"fail", "refuse", "leave"}
    assert {name: len(tasks.pids(path)) for name, path in given.items()} == {
        **{"work": 1, "fail": 3, "refuse": 1, "leave": 3, "work-2": 1}
    }
    log = (logs / "fail.log").read_text()
    assert log.count("ArithmeticError: no luck") == 3
    assert "in fail" in log, "the traceback names the function"
    assert "the video is not one" in (logs / "refuse.log").read_text()


def test_a_worker_that_dies_fails_one_attempt_at_one_task(tmp_path: Path, logs: Path) -> None:
    given = payloads(tmp_path, "killed", "crash", *(f"work-{number}" for number in range(4)))
    failed = Local(processes=2, retries=1).run(tasks.by_name, given, logs)
    assert failed == {
        "killed": f"killed by signal 9 (out of memory?); see {logs / 'killed.log'}",
        "crash": f"killed by signal 11 (SIGSEGV); see {logs / 'crash.log'}",
    }
    assert len(set(tasks.pids(given["killed"]))) == 2, "the second attempt is on a fresh worker"
    assert "Segmentation fault" in (logs / "crash.log").read_text()
    assert all(given[f"work-{number}"].exists() for number in range(4))


def test_a_task_killed_at_first_succeeds_at_last(tmp_path: Path, logs: Path) -> None:
    given = payloads(tmp_path, "a", "b")
    assert Local(processes=2).run(tasks.killed_at_first, given, logs) == {}
    assert all(path.exists() for path in given.values())
    assert Local(processes=2, retries=0).run(tasks.killed_at_first, payloads(tmp_path, "c"), logs).keys() == {"c"}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_task_that_takes_too_long_is_ended(tmp_path: Path, logs: Path, processes: int) -> None:
    given = payloads(tmp_path, "a")
    compute = Local(processes=processes, retries=0, timeout_min=2 / 60)
    failed = compute.run(tasks.hang, given, logs)
    assert failed["a"].startswith("took longer than the 2 s of timeout_min")
    assert not tasks.alive(tasks.pids(given["a"])[0])
    assert (tmp_path / "a.stopped").read_text() == "time"
    child = int((tmp_path / "a.child").read_text())
    tasks.wait_for(lambda: not tasks.alive(child), 2)  # child processes of the task are ended too
    assert not [path for path in tmp_path.iterdir() if ".tmp" in path.name], "half-written files are gone"


def test_the_output_of_a_worker_goes_to_the_log_of_its_task(tmp_path: Path, logs: Path) -> None:
    given = payloads(tmp_path, "a", "b/../c é")
    given["b/../c é"] = tmp_path / "c.json"
    Local(processes=1, timeout_min=1).run(tasks.work, given, logs)
    assert sorted(path.name for path in logs.iterdir()) == ["a.log", "b%2F..%2Fc %C3%A9.log"]
    for log in logs.iterdir():
        lines = log.read_text().splitlines()
        assert "printed by the task" in lines
        assert "written below Python" in lines
        assert any(line.endswith("INFO clep.some: logged by the task") for line in lines)


def test_messages_of_a_task_in_this_process_go_to_its_log(tmp_path: Path, logs: Path, caplog) -> None:
    handlers = list(logging.getLogger().handlers)
    with caplog.at_level(logging.INFO):
        Local(processes=1).run(tasks.work, payloads(tmp_path, "a", "b"), logs)
    assert (logs / "a.log").read_text().count("logged by the task") == 1
    assert logging.getLogger().handlers == handlers


def test_each_worker_sees_one_gpu_and_its_share_of_cores(tmp_path: Path, logs: Path, monkeypatch) -> None:
    monkeypatch.setattr(local, "_visible_gpus", lambda: ["4", "7"])
    monkeypatch.setattr(local, "_cores", lambda: 9)
    given = payloads(tmp_path, *(f"work-{number}" for number in range(6)))
    assert Local().run(tasks.slow_work, given, logs) == {}
    seen = [json.loads(path.read_text()) for path in given.values()]
    assert {flags["CUDA_VISIBLE_DEVICES"] for flags in seen} == {"4", "7"}
    assert {flags["OMP_NUM_THREADS"] for flags in seen} == {"4"}
    Local(processes=3, threads=5).run(tasks.slow_work, given, logs)
    seen = [json.loads(path.read_text()) for path in given.values()]
    assert {flags["OMP_NUM_THREADS"] for flags in seen} == {"5"}


@pytest.mark.parametrize(
    ("named", "count", "gpus"), [(None, 2, ["0", "1"]), ("2,5", 2, ["2", "5"]), ("", 0, []), ("7", 0, [])]
)
def test_visible_gpus(monkeypatch, named: str | None, count: int, gpus: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert local._visible_gpus() == gpus


def test_threads_of_this_process_are_restored(tmp_path: Path, logs: Path) -> None:
    before, seen = torch.get_num_threads(), []
    Local(processes=1, threads=before + 1).run(lambda _: seen.append(torch.get_num_threads()), {"a": None}, logs)
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


@pytest.mark.parametrize("timeout_min", [None, 1])
def test_watch_is_called_about_once_a_second_and_at_the_end(logs: Path, timeout_min: int | None) -> None:
    calls: list[float] = []
    compute = Local(processes=1, timeout_min=timeout_min)
    assert compute.run(tasks.sleep, {"a": 2.5}, logs, lambda: calls.append(time.monotonic())) == {}
    ended = time.monotonic()
    assert len(calls) >= 3
    assert all(0.9 < later - earlier < 2 for earlier, later in itertools.pairwise(calls[:-1]))
    assert ended - calls[-1] < 0.2


@pytest.mark.parametrize("timeout_min", [None, 1])
def test_an_exception_of_watch_is_raised(logs: Path, timeout_min: int | None) -> None:
    def watch() -> None:
        raise InputError("the ledger is damaged")

    with pytest.raises(InputError, match="the ledger is damaged"):
        Local(processes=1, timeout_min=timeout_min).run(tasks.sleep, {"a": 1.5}, logs, watch)


def test_nothing_to_do(logs: Path) -> None:
    assert Local(processes=2).run(tasks.work, {}, logs) == {}
    assert Local(processes=1).run(tasks.work, {}, logs) == {}


SCRIPT = """
import sys
from pathlib import Path
from clep.compute import Local, local
from tests.compute import tasks
folder = Path(sys.argv[1])
local._visible_gpus = list  # none, without importing PyTorch
try:
    Local(processes=2, retries=1).run(tasks.hang, {n: folder / f"{n}.json" for n in "abc"}, folder / "logs")
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    tasks.wait_for(lambda: len(list(tmp_path.glob("*.attempts"))) == 2)
    workers = [pid for path in tmp_path.glob("*.attempts") for pid in tasks.pids(path)]
    children = [int(path.read_text()) for path in tmp_path.glob("*.child")]
    started = time.monotonic()
    parent.send_signal(number)
    out, err = parent.communicate(timeout=20)
    if number == signal.SIGINT:
        assert "interrupted" in out
        assert "KeyboardInterrupt" in err
    if number != signal.SIGKILL:
        assert not any(tasks.alive(pid) for pid in workers), "gone before the parent is"
    tasks.wait_for(lambda: not any(tasks.alive(pid) for pid in workers + children))
    assert time.monotonic() - started < 5
    assert not [path for path in tmp_path.iterdir() if ".tmp" in path.name], "half-written files are gone"
    assert len(list(tmp_path.glob("*.attempts"))) == 2, "no other task was started"
    assert {path.read_text() for path in tmp_path.glob("*.stopped")} == {"stop"}
    assert parent.returncode == {signal.SIGINT: -2, signal.SIGKILL: -9, signal.SIGTERM: 143}[number]


def test_a_function_of_the_main_script_is_refused(logs: Path, monkeypatch) -> None:
    monkeypatch.setattr(tasks.work, "__module__", "__main__")
    with pytest.raises(InputError, match=r"work is defined in the main script.*processes=1"):
        Local(processes=2).run(tasks.work, {"a": 1}, logs)


@pytest.mark.parametrize(
    "options", [{"processes": 0}, {"threads": 0}, {"retries": -1}, {"timeout_min": 0}, {"timeout_min": -1.0}]
)
def test_bad_options(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Local(**options)


def test_a_log_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        Local(processes=1).run(tasks.work, {}, tmp_path / "file" / "logs")
