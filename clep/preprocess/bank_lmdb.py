"""Job: a feature bank → the LMDB beside it, for `device="lmdb"`."""

import logging
from pathlib import Path
from typing import Any

from clep.bank import Clock, FeatureBank, build_lmdb
from clep.bank.lmdb import lmdb_path
from clep.errors import InputError
from clep.files import remove_temporaries

logger = logging.getLogger(__name__)


def run(
    *,
    bank: str | Path,
    rows_per_second: float | int | None = None,
    row_seconds: float | int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a feature bank into an LMDB beside it: features.lmdb for features.h5.

    Does nothing when it is up to date; a half-built or stale one is written again.

    Args:
        bank: the feature bank, a file or a folder of shards.
        rows_per_second: rows per second, only for a file of one dataset per video, which does not say.
        row_seconds: seconds that one row covers, likewise.
        overwrite: write the LMDB anew even where it is up to date.

    Returns:
        Counts of videos and rows, and whether there was nothing to do.

    Raises:
        InputError: the bank cannot be read, the package lmdb is not installed, or the disk is full.
    """
    if (rows_per_second is None) != (row_seconds is None):
        raise InputError("a clock needs both rows_per_second and row_seconds, or neither")
    given = rows_per_second is not None and row_seconds is not None
    clock = Clock(float(rows_per_second or 0), float(row_seconds or 0)) if given else None
    up_to_date = not overwrite and _current(Path(bank), clock)
    if not up_to_date:
        remove_temporaries(lmdb_path(bank))  # of a run that was killed: as large as the bank
        build_lmdb(bank, clock=clock)
    made = FeatureBank.open(bank, "lmdb")
    state = "is up to date" if up_to_date else "is written"
    logger.info("%s %s: %s videos, %s rows", lmdb_path(bank), state, f"{len(made):,}", f"{made.n_rows:,}")
    return {"videos": len(made), "rows": made.n_rows, "up_to_date": up_to_date}


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return [Path(options["bank"])]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return [lmdb_path(options["bank"])]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    bank = Path(options["bank"])
    files = list(bank.glob("*.h5")) if bank.is_dir() else [bank]
    size = sum(path.stat().st_size for path in files)
    if size <= long_bytes or (not options["overwrite"] and _current(bank, None)):
        return None
    return f"{size / 1e9:,.0f} GB of features are to be copied into an LMDB"


def _current(bank: Path, clock: Clock | None) -> bool:
    if not bank.exists() or not lmdb_path(bank).exists():
        return False
    try:
        FeatureBank.open(bank, "lmdb", clock=clock)
    except InputError as error:
        logger.info("%s", error)
        return False
    return True
