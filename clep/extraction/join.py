"""Shards into one bank, and its rows as one `.npy` file a video."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from clep.bank import BankWriter, Clock, FeatureBank, copy_video
from clep.extraction.coverage import coverage_path
from clep.extraction.feature_packing import Dtype
from clep.extraction.finished import Finished
from clep.extraction.items import file_name
from clep.extraction.ledger import ledger_path
from clep.files import atomic_path

_OPEN_AT_ONCE = 32


def join(
    done: Mapping[str, Finished],
    output: Path,
    clock: Clock,
    dtype: Dtype,
    source: str,
) -> None:
    """Write the rows of videos, wherever they lie now, into one bank in the order of their ids.

    A few banks are open at a time, however many shards there are.

    Raises:
        InputError: the disk is full, or a bank cannot be read.
    """
    opened = lru_cache(_OPEN_AT_ONCE)(FeatureBank.open)
    first = opened(next(iter(done.values())).bank)
    rows = sum(one.entry.rows for one in done.values())
    with BankWriter(output, first.dim, clock, dtype, first.encoder, source, n_rows=rows) as writer:
        for name in sorted(done):
            copy_video(opened(done[name].bank), name, writer)


def npy_folder(output: Path) -> Path:
    """Return where the `.npy` files of a bank go: `X_npy` beside `X.h5`."""
    return output.with_name(f"{output.stem}_npy")


def own_files(output: Path) -> list[Path]:
    """Return the files and the folder that an extraction leaves."""
    return [output, ledger_path(output), coverage_path(output), npy_folder(output)]


def write_npy(output: Path) -> None:
    """Write `<id>.npy` `[rows, dim]` float32 for each video of a bank, where it is missing or older than the bank.

    Files of ids that the bank does not hold are removed. An id that is no file name is written as `file_name` says.
    """
    bank, made = FeatureBank.open(output), output.stat().st_mtime_ns
    paths = {npy_folder(output) / f"{file_name(name)}.npy": name for name in bank.videos}
    for path, name in paths.items():
        if not path.exists() or path.stat().st_mtime_ns < made:
            with atomic_path(path) as temporary:
                np.save(temporary, bank.video_rows(name).numpy(), allow_pickle=False)
    for path in set(npy_folder(output).glob("*.npy")) - set(paths):
        path.unlink()
