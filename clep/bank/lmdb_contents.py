"""Opening a bank that lies in an LMDB: its tables, and whether it still is the bank that it was made from."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from clep.bank import lmdb_file as names
from clep.bank.clock import Clock
from clep.bank.files import read_shards
from clep.bank.format import Shard, bank_files, rows_digest
from clep.bank.lmdb_rows import LmdbRows
from clep.bank.storage import check_as_stored, parse_dtype
from clep.errors import InputError

_log = logging.getLogger(__name__)


def read_lmdb(
    path: Path, dtype: str | torch.dtype | None, clock: Clock | None
) -> tuple[LmdbRows, Shard, Float64[Tensor, " rows"] | None]:
    """Open the LMDB of a bank: its rows, its tables as those of one file, and the second of each row or None.

    Args:
        path: the bank, or the LMDB itself.
        dtype, clock: as for `FeatureBank.open`; another than the stored one is refused.

    Raises:
        InputError: it is missing, half-built, damaged, not a bank, or the bank has changed since it was built; the
            message ends with the command that builds it.
    """
    where = names.lmdb_path(path)
    if not where.exists():
        raise InputError(f"{where} does not exist: build it with {names.build_command(_bank_of(path))}")
    file = names.LmdbFile(where)
    about = read_about(file, path)
    bank = where.with_name(about["bank"])
    if path != where and path.name != about["bank"]:
        raise InputError(f"{where} was made from {about['bank']}, not from {path.name}: {_again(path)}")
    if bank.exists():
        check_current(where, about, bank)
    elif path != where:
        _log.info("%s is not here; %s is taken as it is", bank, where)
    stored = stored_clock(about)
    if clock is not None and clock != stored:
        raise InputError(f"{where} has the clock ({stored}), not ({clock}): leave clock out to use its own")
    check_as_stored(where, about["dtype"], parse_dtype(dtype))
    with file.reading() as transaction:
        ids = json.loads(bytes(_value(transaction, names.VIDEO_ID, path)))
        first_row = np.frombuffer(_value(transaction, names.FIRST_ROW, path), dtype="<i8").astype(np.int64)
        duration_s = np.frombuffer(_value(transaction, names.DURATION, path), dtype="<f8").astype(np.float64)
        seconds = transaction.get(names.ROW_SECOND)
        known = None if seconds is None else torch.from_numpy(np.frombuffer(seconds, dtype="<f8").astype(np.float64))
        entries = file.entries()
        _check_sizes(entries, transaction, about, ids, first_row, duration_s, known, path)
    rows = LmdbRows(file, about["n_rows"], about["dim"], getattr(torch, about["dtype"]), about["block_rows"])
    return rows, Shard(where, (), ids, first_row, duration_s, stored, about["encoder"], about["source"]), known


def read_about(file: names.LmdbFile, path: Path) -> dict[str, Any]:
    """What an LMDB says about itself.

    Raises:
        InputError: it is half-built, damaged, or not a bank; the message ends with the command that builds it.
    """
    try:
        with file.reading() as transaction:
            value = transaction.get(names.ABOUT)
            about = None if value is None else json.loads(bytes(value))
    except (InputError, ValueError) as error:
        if "pip install" in str(error):
            raise
        raise InputError(f"{error}: {_again(path)}") from error
    if about is None:
        raise InputError(f"{file.path} is half-built, or not a bank: {_again(path)}")
    if not isinstance(about, dict) or about.get("format") != names.FORMAT or about.get("version") != names.VERSION:
        raise InputError(f"{file.path} is not a bank that this clep can read: {_again(path)}")
    return about


def check_current(where: Path, about: dict[str, Any], bank: Path) -> None:
    """Refuse an LMDB whose bank has changed since.

    Same names, sizes and times of the files are enough. Where only times differ, as after copying, the rows are read
    through and their digest is compared.

    Raises:
        InputError: it is stale; the message ends with the command that builds it.
    """
    files, made_from = bank_files(bank), about["files"]
    if files == made_from:
        return
    if [file[:2] for file in files] == [file[:2] for file in made_from]:
        _log.info("%s has another time than when %s was made; comparing their rows", bank, where)
        try:
            if rows_digest(read_shards(bank, stored_clock(about))) == about["digest"]:
                return
        except InputError as error:
            _log.info("%s", error)
    raise InputError(f"{where} is stale, {bank} has changed since it was made: {_again(bank)}")


def stored_clock(about: dict[str, Any]) -> Clock | None:
    """The clock that an LMDB holds; None for a bank of texts."""
    return None if about["row_seconds"] is None else Clock(about["rows_per_second"], about["row_seconds"])


def _bank_of(path: Path) -> Path:
    return path.with_suffix(".h5") if path.suffix == names.LMDB_SUFFIX else path


def _again(path: Path) -> str:
    return f"build it again with {names.build_command(_bank_of(path))}"


def _value(transaction: Any, key: bytes, path: Path) -> memoryview:
    value = transaction.get(key)
    if value is None:
        raise InputError(f"{names.lmdb_path(path)} lacks {key.decode()!r}: {_again(path)}")
    return value


def _check_sizes(
    entries: int,
    transaction: Any,
    about: dict[str, Any],
    ids: list[str],
    first_row: np.ndarray,
    duration_s: np.ndarray,
    seconds: Tensor | None,
    path: Path,
) -> None:
    n_rows, irregular = about["n_rows"], about["row_seconds"] is not None and about["rows_per_second"] is None
    last = math.ceil(n_rows / about["block_rows"]) - 1
    agree = (
        len(ids) == len(duration_s) == len(first_row) - 1
        and first_row[-1] == n_rows
        and (None if seconds is None else len(seconds)) == (n_rows if irregular else None)
        and entries == last + 1 + 4 + irregular
        and transaction.get(names.block_key(last)) is not None
    )
    if not agree:
        raise InputError(f"{names.lmdb_path(path)} is damaged, its parts contradict each other: {_again(path)}")
