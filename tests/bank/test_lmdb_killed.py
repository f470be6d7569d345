"""Builds of an LMDB that are killed at any step: what they leave is never read as a bank."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import FeatureBank, build_lmdb
from clep.bank import lmdb as lmdb_module
from clep.errors import InputError
from clep.preprocess.bank_lmdb import BankLmdb
from tests.bank.banks import random_videos, write

pytest.importorskip("lmdb")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "b.h5", random_videos(40, dim=1024))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("before", ["nothing", "another bank's", "its own"])
@pytest.mark.parametrize("moment", [0, 1, 7, 11, "tables", "sealing", "renaming"])
def test_a_killed_build_leaves_nothing_that_is_read(path: Path, before: str, moment: int | str) -> None:
    wanted = FeatureBank.open(path).take(torch.arange(0, 700, 7))
    if before != "nothing":
        build_lmdb(path)
    if before == "another bank's":
        path.write_bytes(write(path.with_name("c.h5"), random_videos(40, 5, 1024)).read_bytes())
        wanted = FeatureBank.open(path).take(torch.arange(0, 700, 7))
    child = os.fork()
    if child == 0:
        _build_and_be_killed(path, moment)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (left,) = path.parent.glob(".b.*.tmp.lmdb")  # what a copy of the folder would contain
    if before == "its own":
        assert FeatureBank.open(path, "lmdb").take(torch.arange(0, 700, 7)).equal(wanted)
    else:
        with pytest.raises(InputError, match="does not exist" if before == "nothing" else "is stale"):
            FeatureBank.open(path, "lmdb")
    half = left.rename(path.with_name("half.lmdb"))
    if moment != "renaming":  # the file is complete then
        with pytest.raises(InputError, match=r"half\.lmdb is truncated, half-built"):
            FeatureBank.open(half, "lmdb")
    half.rename(left)
    assert BankLmdb(bank=path).run()["up_to_date"] == (before == "its own")
    assert FeatureBank.open(path, "lmdb").take(torch.arange(0, 700, 7)).equal(wanted)
    assert left.exists() == (before == "its own")  # the job removes leftovers in its folder


def _build_and_be_killed(path: Path, moment: int | str) -> None:
    """Build in a process that dies after a number of blocks, or before a later step."""
    torch.set_num_threads(1)

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def some(*arguments: object) -> Iterator[np.ndarray]:
        for number, block in enumerate(blocks(*arguments)):
            if number == moment:
                die()
            yield block

    blocks = lmdb_module._blocks
    lmdb_module._blocks = some
    lmdb_module._COMMIT_BYTES = 1 << 18  # of every second block
    if moment == "tables":
        lmdb_module._tables = die
    elif moment == "sealing":
        lmdb_module._seal = die
    elif moment == "renaming":
        Path.replace = die
    build_lmdb(path)
    os._exit(0)
