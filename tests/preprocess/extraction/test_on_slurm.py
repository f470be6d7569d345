"""The video job on a real Slurm of one node, from the command line, with relative paths."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clep.preprocess.extraction import ledger_path, read_ledger
from tests.compute.conftest import _cluster, cluster  # noqa: F401  # fixtures

COMMAND = [
    *(sys.executable, "-m", "clep.preprocess", "videos", "videos=films", "encoder=efficientnet_lite0"),
    *("encoder.crop_px=64", "n_shards=2"),
]
SLURM = ["compute=slurm", "compute.gpus=0", "compute.cpus=1", "compute.poll_s=1", "compute.time_min=5"]


@pytest.mark.slurm
@pytest.mark.slow
def test_an_array_makes_the_bank_that_one_process_makes(cluster: Path, films: Path, tmp_path: Path) -> None:  # noqa: F811
    (films / "broken.mp4").write_bytes(b"nothing to see")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    here = subprocess.run([*COMMAND, "output=here.h5"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert here.returncode == 0, here.stderr
    there = subprocess.run([*COMMAND, *SLURM, "output=there.h5"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert there.returncode == 0, there.stderr
    assert (tmp_path / "there.h5").read_bytes() == (tmp_path / "here.h5").read_bytes()
    statuses = {entry.id: entry.status for entry in read_ledger(ledger_path(tmp_path / "there.h5"))}
    assert statuses["broken"] == "failed"
    assert sorted(statuses.values()) == ["done"] * 5 + ["failed"]


@pytest.mark.slurm
@pytest.mark.slow
def test_ctrl_c_cancels_the_array_and_the_next_run_finishes(cluster: Path, films: Path, tmp_path: Path) -> None:  # noqa: F811
    command = [*COMMAND, *SLURM, "output=bank.h5"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not _jobs() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _jobs(), "nothing was submitted"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    while _jobs() and time.monotonic() < deadline + 60:
        time.sleep(0.5)
    assert not _jobs()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert {entry.status for entry in read_ledger(ledger_path(tmp_path / "bank.h5"))} == {"done"}


def _jobs() -> list[str]:
    return subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout.splitlines()
