"""Job: a feature bank → the LMDB beside it, for `device="lmdb"`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.bank import Clock, FeatureBank, build_lmdb
from clep.bank.lmdb import lmdb_path
from clep.errors import InputError
from clep.files import remove_temporaries
from clep.preprocess.job import Job

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BankLmdb(Job, job="bank_lmdb"):
    """A feature bank → the LMDB beside it (features.lmdb for features.h5), for device=lmdb.

    Does nothing when it is up to date; a half-written or outdated one is written again.

    Attributes:
        bank: the feature bank, a file or a folder of shards.
        rows_per_second: rows per second, only for a file of one dataset per video, which does not store it.
        row_seconds: seconds that one row covers, likewise.
        overwrite: write the LMDB again even where it is up to date.
    """

    bank: str | Path = "${paths.out}/features.h5"
    rows_per_second: float | int | None = None
    row_seconds: float | int | None = None
    overwrite: bool = False

    def inputs(self) -> list[Path]:
        """Return the bank."""
        return [Path(self.bank)]

    def outputs(self) -> list[Path]:
        """Return the LMDB."""
        return [lmdb_path(self.bank)]

    def run(self) -> dict[str, Any]:
        """Return counts of videos and rows, and whether the LMDB was up to date.

        Raises:
            InputError: the bank cannot be read, the package lmdb is not installed, or the disk is full.
        """
        if (self.rows_per_second is None) != (self.row_seconds is None):
            raise InputError("a clock needs both rows_per_second and row_seconds, or neither")
        given = self.rows_per_second is not None and self.row_seconds is not None
        clock = Clock(float(self.rows_per_second or 0), float(self.row_seconds or 0)) if given else None
        path = lmdb_path(self.bank)
        up_to_date = not self.overwrite and _is_current(Path(self.bank), clock)
        if not up_to_date:
            remove_temporaries(path)  # of a run that was killed: as large as the bank
            build_lmdb(self.bank, clock=clock)
        written = FeatureBank.open(self.bank, "lmdb")
        state = "is up to date" if up_to_date else "is written"
        logger.info("%s %s: %s videos, %s rows", path, state, f"{len(written):,}", f"{written.n_rows:,}")
        return {"videos": len(written), "rows": written.n_rows, "up_to_date": up_to_date}

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why copying the bank would take long, or None."""
        bank = Path(self.bank)
        files = list(bank.glob("*.h5")) if bank.is_dir() else [bank]
        size = sum(path.stat().st_size for path in files)
        if size <= long_bytes or (not self.overwrite and _is_current(bank, None)):
            return None
        return f"{size / 1e9:,.0f} GB of features are to be copied into an LMDB"


def _is_current(bank: Path, clock: Clock | None) -> bool:
    if not bank.exists() or not lmdb_path(bank).exists():
        return False
    try:
        FeatureBank.open(bank, "lmdb", clock=clock)
    except InputError as error:
        logger.info("%s", error)
        return False
    return True
