"""The video job on a real Slurm of one node, from the command line, with relative paths."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from clep.extraction import ledger_path, read_ledger
from clep.preprocess.__main__ import main
from tests.compute.conftest import _cluster, cluster  # noqa: F401  # fixtures

WORDS = ["videos", "videos=films", "encoder=efficientnet_lite0", "encoder.crop_px=64", "n_shards=2"]
SLURM = ["compute=slurm", "compute.gpus=0", "compute.cpus=1", "compute.poll_s=0.3", "compute.time_min=5"]


@pytest.mark.slurm
@pytest.mark.waits
def test_an_array_is_cancelled_by_ctrl_c_and_the_next_one_makes_the_bank_that_one_process_makes(
    cluster: Path,  # noqa: F811
    films: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (films / "broken.mp4").write_bytes(b"nothing to see")
    assert main([*WORDS, "compute.threads=1", "output=here.h5"]) == 0
    ctrl_c = threading.Thread(target=press_ctrl_c_once_jobs_are_there)
    ctrl_c.start()
    assert main([*WORDS, *SLURM, "output=there.h5"]) == 130
    ctrl_c.join()
    until = time.monotonic() + 60
    while jobs() and time.monotonic() < until:
        time.sleep(0.1)
    assert not jobs()
    assert not Path("there.h5").exists()

    assert main([*WORDS, *SLURM, "output=there.h5"]) == 0
    assert Path("there.h5").read_bytes() == Path("here.h5").read_bytes()
    statuses = {entry.id: entry.status for entry in read_ledger(ledger_path("there.h5"))}
    assert statuses["broken"] == "failed"
    assert sorted(statuses.values()) == ["done"] * 5 + ["failed"]


def press_ctrl_c_once_jobs_are_there() -> None:
    until = time.monotonic() + 60
    while not jobs() and time.monotonic() < until:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)


def jobs() -> list[str]:
    return subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout.splitlines()
