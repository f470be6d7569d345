"""One run, one folder, in real processes: starts in the same second, ranks of one training, second starts, requeues."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from clep.errors import InputError
from clep.files import read_json
from clep.training import run_folder
from clep.training.run_folder import claim, is_alive, locked_run_folder, rank
from tests.training.claiming_app import start, write_config

pytestmark = pytest.mark.waits
Start = Callable[..., ForkServerProcess]
LAUNCHERS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_NTASKS", "SLURM_PROCID", "TORCHELASTIC_RUN_ID", "CLEP_TRAINING")


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in (*LAUNCHERS, "CLEP_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    yield
    os.environ.pop("CLEP_TRAINING", None)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_config(tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def begin(runs: Path) -> Iterator[Start]:
    """Start an app in a process of its own; all are killed at the end."""
    context, processes = multiprocessing.get_context("forkserver"), []

    def begun(at: float = 0.0, until: str = "end", wait_s: float = 10.0, **environment: str) -> ForkServerProcess:
        given = (len(processes), runs, environment, at, until, wait_s)
        process = context.Process(target=start, args=given, daemon=True)
        process.start()
        processes.append(process)
        return process

    yield begun
    for process in processes:
        process.kill()
        process.join()


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def occupants(runs: Path) -> dict[str, int]:
    """Return how many processes noted themselves in each folder."""
    found = [path.parent.name for path in runs.glob("*/process-*")]
    return {name: found.count(name) for name in found}


@pytest.mark.parametrize(
    ("count", "environment"),
    [(5, {}), pytest.param(8, {}, marks=pytest.mark.slow), (3, {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "71"})],
    ids=["alone", "many alone", "one Slurm job"],
)
def test_starts_in_the_same_second_get_different_folders(
    runs: Path, begin: Start, count: int, environment: dict[str, str]
) -> None:
    at = time.time() + 0.5
    processes = [begin(at, **environment) for _ in range(count)]
    wait_for(lambda: sum(occupants(runs).values()) == count)
    (runs / "end").touch()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count
    assert list(occupants(runs).values()) == [1] * count
    assert all((runs / name / ".hydra" / "overrides.yaml").is_file() for name in occupants(runs))


def test_the_tasks_of_a_slurm_array_have_different_names(runs: Path, begin: Start) -> None:
    at = time.time() + 0.5
    for task in range(3):
        begin(at, SLURM_NTASKS="1", SLURM_ARRAY_JOB_ID="70", SLURM_JOB_ID=f"7{task}", SLURM_ARRAY_TASK_ID=str(task))
    wait_for(lambda: sum(occupants(runs).values()) == 3)
    assert sorted(name.rpartition("-slurm-")[2] for name in occupants(runs)) == ["70-0", "70-1", "70-2"]


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_ranks_of_one_training_share_a_folder_whichever_comes_first(runs: Path, begin: Start, launcher: str) -> None:
    common = (
        {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
        if launcher == "torchrun"
        else {"SLURM_NTASKS": "3", "SLURM_JOB_ID": "71", "SLURM_STEP_ID": "0"}
    )
    own = [
        {"RANK": str(one), "LOCAL_RANK": str(one)} if launcher == "torchrun" else {"SLURM_PROCID": str(one)}
        for one in range(3)
    ]
    later = [begin(**common, **own[one]) for one in (2, 1)]
    time.sleep(0.5)
    assert not occupants(runs)
    first = begin(**common, **own[0])
    wait_for(lambda: list(occupants(runs).values()) == [3])
    (runs / "end").touch()
    for process in (first, *later):
        process.join(60)
        assert process.exitcode == 0


def test_a_second_start_with_the_same_name_is_refused_while_the_first_lives(runs: Path, begin: Start) -> None:
    first = begin(CLEP_RUN_ID="mine")
    wait_for(lambda: occupants(runs) == {"mine": 1})
    written = (runs / "mine" / ".hydra" / "hydra.yaml").stat().st_mtime_ns
    second = begin(CLEP_RUN_ID="mine", wait_s=0.5)
    second.join(60)
    assert second.exitcode == 1
    assert f"process {first.pid} on" in (runs / "errors-1").read_text()
    assert occupants(runs) == {"mine": 1}
    assert (runs / "mine" / ".hydra" / "hydra.yaml").stat().st_mtime_ns == written
    assert is_alive(runs / "mine")

    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join(10)
    assert not is_alive(runs / "mine")
    again = begin(CLEP_RUN_ID="mine", until="end2")
    wait_for(lambda: occupants(runs) == {"mine": 2})
    (runs / "end2").touch()
    again.join(60)
    assert again.exitcode == 0


def test_a_rank_of_another_training_does_not_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked_run_folder(tmp_path / "run"):
        monkeypatch.setattr(run_folder, "RANK_WAIT_S", 0.1)
        monkeypatch.setenv("CLEP_TRAINING", "another")
        monkeypatch.setenv("LOCAL_RANK", "1")
        with pytest.raises(InputError, match=r"other: rank 0 .* has not claimed .*CLEP_RUN_ID"):
            claim(tmp_path / "other")
        claim(tmp_path / "run")  # held by this process already


def test_a_finished_run_keeps_its_folder(tmp_path: Path) -> None:
    with locked_run_folder(tmp_path / "run"):
        (tmp_path / "run" / "metrics.json").touch()
        assert read_json(tmp_path / "run" / ".run.json")["process"] == os.getpid()
    with pytest.raises(InputError, match=r"run holds a finished run.*CLEP_RUN_ID"), locked_run_folder(tmp_path / "run"):
        pass
    assert not is_alive(tmp_path / "run")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"LOCAL_RANK": "1"}, 1),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, 1),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "2"}, 2),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "2"}, 0),
    ],
)
def test_the_rank_comes_from_the_launcher(
    environment: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert rank() == expected
