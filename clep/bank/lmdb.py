"""Bank in an LMDB (`*.lmdb`): rows in blocks of about 128 kB, tables, and checksums of both.

Values are raw little-endian arrays, not pickles. Keys: `rows<index>` for each block, and `bank`, written last, an .npz
with the tables and a JSON of the shape, the clock and the source files. After LMDB's own pages follows a seal: the
digests of `bank` and of all pages except those of large values. It is verified before liblmdb opens the file, since
damaged B-tree pages can crash liblmdb. A truncated or half-built file has no seal.
"""

import importlib
import io
import json
import logging
import os
import struct
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped, UInt64
from torch import Tensor

from clep.bank.clock import Clock
from clep.bank.files import join_shards, read_shards
from clep.bank.format import ROW_DTYPES, RowDigests, Shard, map_file
from clep.bank.storage import Rows, Verify, check_as_stored, parse_dtype, read_seconds
from clep.checksums import block_digest, check_digest, digest, file_digest
from clep.errors import InputError
from clep.files import atomic_path
from clep.remote import is_remote, shown

LMDB_SUFFIX = ".lmdb"
_BANK, _SEAL = b"bank", b"clep-lmdb-seal-1"
_TAIL = struct.Struct("<QQ16s")  # digest and length of the seal's text, and the magic bytes
_PAGE_HEADER, _OVERFLOW = 16, 4  # bytes before a value, and the flag of pages that hold one large value
_BLOCK_BYTES = (1 << 17) - _PAGE_HEADER  # whole pages; reading a value reads all of it
_COMMIT_BYTES = 64 << 20

_log = logging.getLogger(__name__)

FileId = tuple[int, int, int]  # device, inode and size


def block_key(block: int) -> bytes:
    """Key of one block of rows; keys sort like the block indices."""
    return b"rows" + block.to_bytes(8, "big")


def lmdb_path(path: str | Path) -> Path:
    """Path of the LMDB of a bank: `features.lmdb` beside `features.h5`, or beside the folder `features`.

    Raises:
        InputError: `path` is a URL.
    """
    if is_remote(path):
        raise InputError(
            f"{shown(path)}: an LMDB is read from a local disk only: copy the bank to one, or open it with device=disk "
            f"or cpu, which fetches it into the cache"
        )
    path = Path(path)
    if path.suffix == LMDB_SUFFIX:
        return path
    return path.with_suffix(LMDB_SUFFIX) if path.suffix in (".h5", ".hdf5") else path.with_name(path.name + LMDB_SUFFIX)


def _build_command(path: Path) -> str:
    bank = path.with_suffix(".h5") if path.suffix == LMDB_SUFFIX else path
    return f"python -m clep.preprocess bank_lmdb bank={bank} overwrite=true"


def _import_lmdb() -> Any:
    try:
        return importlib.import_module("lmdb")
    except ModuleNotFoundError as error:
        raise InputError("device='lmdb' needs the package lmdb: pip install 'clep[lmdb]'") from error


def build_lmdb(path: str | Path, out: str | Path | None = None, clock: Clock | None = None) -> Path:
    """Copy a bank into an LMDB, for `FeatureBank.open(path, device="lmdb")`.

    The LMDB is written atomically and takes about as much disk space as the bank. Rows are verified while they are
    copied.

    Args:
        path: the bank: a file, a folder of shards, or a tutorial file.
        out: the file to write; None: `features.lmdb` beside `features.h5`, where `FeatureBank.open` looks for it.
        clock: required for a tutorial file.

    Returns:
        Path of the LMDB.

    Raises:
        InputError: the bank cannot be read, its dtype is none of float16, float32 and uint8, or the disk is full.
    """
    beside = lmdb_path(path).absolute()
    path, target = Path(path).absolute(), beside if out is None else Path(out).absolute()
    if path.suffix == LMDB_SUFFIX or target.suffix != LMDB_SUFFIX:
        raise InputError(f"cannot make {target} from {path}: give a bank (.h5), and an output named *.lmdb")
    lmdb = _import_lmdb()
    stats = _stats(path)  # before the rows are read, so that a change during the copy is detected
    shards = read_shards(path, clock)
    extents = join_shards(shards).rows
    dtype = extents[0].dtype.newbyteorder("=")
    if dtype.name not in ROW_DTYPES or any(extent.dtype.newbyteorder("=") != dtype for extent in extents):
        raise InputError(
            f"{path} stores {dtype.name}, or several dtypes, but an LMDB holds one of {', '.join(ROW_DTYPES)}: write "
            f"the bank again with BankWriter"
        )
    dim, n_rows = shards[0].dim, sum(extent.shape[0] for extent in extents)
    block_rows = max(1, _BLOCK_BYTES // (dim * dtype.itemsize))
    map_size = 2 * n_rows * dim * dtype.itemsize + n_rows * 512 + (64 << 20)
    with atomic_path(target) as temporary:
        try:
            with lmdb.open(str(temporary), subdir=False, lock=False, map_size=map_size, max_dbs=0) as environment:
                digests = _put_blocks(environment, _blocks(shards, block_rows, dtype.newbyteorder("<")))
                about = {"dim": dim, "n_rows": n_rows, "dtype": dtype.name, "block_rows": block_rows}
                tables = _tables(shards, digests, about | {"bank": path.name, "files": stats})
                with environment.begin(write=True) as transaction:
                    transaction.put(_BANK, tables)
                environment.sync(True)
                n_pages, page_bytes = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
            os.truncate(temporary, n_pages * page_bytes)  # the file ends with unused pages
            _seal(temporary, page_bytes, tables)
        except lmdb.Error as error:
            raise InputError(f"cannot write {target}: {error}; free some space, or choose another folder") from error
    return target


def _put_blocks(environment: Any, blocks: Iterator[np.ndarray]) -> UInt64[np.ndarray, " blocks"]:
    transaction, waiting, digests = environment.begin(write=True), 0, []
    try:
        for index, block in enumerate(blocks):
            transaction.put(block_key(index), block.reshape(-1).view(np.uint8).data, append=True)
            digests.append(block_digest(block))
            waiting += block.nbytes
            if waiting >= _COMMIT_BYTES:
                transaction.commit()
                transaction, waiting = environment.begin(write=True), 0
        transaction.commit()
    except BaseException:
        transaction.abort()
        raise
    return np.array(digests, dtype=np.uint64)


def _blocks(shards: list[Shard], block_rows: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """All rows in order, verified, `block_rows` at a time."""
    left = np.empty((0, shards[0].dim), dtype=dtype)
    for shard in shards:
        for extent in shard.rows:
            for _, part in extent.blocks(shard.digests):
                rows = np.concatenate([left, part], dtype=dtype)
                whole = len(rows) // block_rows * block_rows
                yield from (rows[begin : begin + block_rows] for begin in range(0, whole, block_rows))
                left = rows[whole:].copy()
    if len(left):
        yield left


def _tables(shards: list[Shard], digests: UInt64[np.ndarray, " blocks"], about: dict[str, Any]) -> bytes:
    joined = join_shards(shards)
    about |= {
        "clock": None if joined.clock is None else asdict(joined.clock),
        "encoder": joined.encoder,
        "source": joined.source,
        "content": _content(shards),
        "ids": joined.ids,
    }
    tables = {
        "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        "first_row": joined.first_row.astype("<i8"),
        "duration_s": joined.duration_s.astype("<f8"),
        "block_digest": digests.astype("<u8"),
    }
    if extents := [shard.seconds for shard in shards if shard.seconds is not None]:
        tables["second"] = read_seconds(extents).numpy().astype("<f8")
    if joined.nonfinite_rows is not None:
        tables["nonfinite_rows"] = joined.nonfinite_rows.astype("<i8")
    np.savez(buffer := io.BytesIO(), **tables)  # type: ignore[arg-type]
    return buffer.getvalue()


def _stats(path: Path) -> list[list[str | int]]:
    """Name, size and modification time (ns) of each file of a bank."""
    files = sorted(path.glob("[!.]*.h5"), key=lambda p: p.name) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.exists()]


def _content(shards: list[Shard]) -> list[str]:
    """Digest of the content of each file of a bank; files without checksums are read completely."""
    return [shard.content_digest or file_digest(shard.path) for shard in shards]


def _seal(path: Path, page_bytes: int, tables: bytes) -> None:
    pages = map_file(path).reshape(-1, page_bytes)
    tree: list[list[int]] = []  # ranges of pages that hold no large value
    page = 0
    while page < len(pages):
        flags, size = pages[page, 10:12].view("<u2")[0], int(pages[page, 12:16].view("<u4")[0])
        if page > 1 and flags & _OVERFLOW:
            page += size
            continue
        if not tree or tree[-1][1] != page:
            tree.append([page, page])
        page = tree[-1][1] = page + 1
    seal = {"shape": pages.shape, "pages": tree, "pages_digest": _pages_digest(pages, tree), "bank": digest(tables)}
    text = json.dumps(seal).encode()
    with path.open("ab") as file:
        file.write(text + _TAIL.pack(block_digest(text), len(text), _SEAL))


def _pages_digest(pages: np.ndarray, ranges: list[list[int]]) -> str:
    return digest(*(pages[begin:end] for begin, end in ranges))


def _read_seal(path: Path) -> dict[str, Any]:
    """Read the seal of an LMDB, and verify the B-tree pages with it."""
    data = map_file(path) if path.stat().st_size else np.empty(0, dtype=np.uint8)
    stored, size, magic = _TAIL.unpack(data[-_TAIL.size :].tobytes().rjust(_TAIL.size, b"\0"))
    text = data[len(data) - _TAIL.size - size : -_TAIL.size].tobytes() if magic == _SEAL else b""
    if magic != _SEAL or block_digest(text) != stored:
        raise InputError(f"{path} is truncated, half-built, damaged, made by an older clep, or not an LMDB of a bank")
    seal = json.loads(text)
    pages = data[: seal["shape"][0] * seal["shape"][1]].reshape(seal["shape"])
    check_digest(path, "its metadata", seal["pages_digest"], _pages_digest(pages, seal["pages"]), " ")
    return seal


class LmdbFile:
    """One LMDB, opened for reading at first use, once per process (`LmdbFile.of`), without lock and read-ahead.

    A child process must not use an LMDB that its parent opened: all are closed before a fork, and opened again at the
    next use.

    Raises:
        InputError: the file is missing, not an LMDB of a bank, truncated or damaged.
    """

    opened: ClassVar["weakref.WeakValueDictionary[FileId, LmdbFile]"] = weakref.WeakValueDictionary()
    lock = threading.RLock()

    def __init__(self, path: Path, identity: FileId) -> None:
        self._environment: Any = None
        self.path, self.identity, self.seal = path, identity, _read_seal(path)

    @classmethod
    def of(cls, path: Path) -> "LmdbFile":
        """The instance of this process for a file, created at the first call."""
        with cls.lock:
            identity = _identity(path)
            file = cls.opened.get(identity)
            return file or cls.opened.setdefault(identity, cls(path, identity))

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Read transaction, one thread at a time; its values are memoryviews, valid until the block ends.

        Raises:
            InputError: the file cannot be read, or was replaced since it was opened.
        """
        lmdb = _import_lmdb()
        with LmdbFile.lock:
            try:
                if self._environment is None:
                    if _identity(self.path) != self.identity:
                        raise InputError(f"{self.path} was replaced while it was in use: open the bank again")
                    options = {"readonly": True, "create": False, "lock": False, "readahead": False, "max_dbs": 0}
                    self._environment = lmdb.open(str(self.path), subdir=False, **options)
                with self._environment.begin(buffers=True) as transaction:
                    yield transaction
            except lmdb.Error as error:
                raise InputError(f"{self.path} is damaged, or not an LMDB ({error})") from error

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    __del__ = close


def _before_fork() -> None:
    LmdbFile.lock.acquire()
    for file in list(LmdbFile.opened.values()):
        file.close()


def _in_child() -> None:
    LmdbFile.lock = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=lambda: LmdbFile.lock.release(), after_in_child=_in_child)


def _identity(path: Path) -> FileId:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return found.st_dev, found.st_ino, found.st_size


def read_lmdb(
    path: Path, dtype: str | torch.dtype | None, clock: Clock | None, verify: Verify
) -> tuple["LmdbRows", Shard, Float64[Tensor, " rows"] | None]:
    """Open the LMDB of a bank.

    Args:
        path: the bank, or the LMDB itself.
        dtype, clock, verify: as for `FeatureBank.open`; dtype and clock must be None or equal to the stored ones.

    Returns:
        The rows; the tables, as of a single file; and the second of each row, None for a regular clock.

    Raises:
        InputError: the LMDB is missing, half-built, damaged, not a bank, or older than the bank; the message ends with
            the command that builds it.
    """
    where = lmdb_path(path)
    if not where.exists():
        raise InputError(f"{where} does not exist: build it with {_build_command(path)}")
    _import_lmdb()
    try:
        file = LmdbFile.of(where)
        with file.reading() as transaction:
            value = bytes(transaction.get(_BANK) or b"")
        check_digest(where, "its tables", file.seal["bank"], digest(value), " ")
        with np.load(io.BytesIO(value), allow_pickle=False) as archive:
            tables = dict(archive)
        about = json.loads(tables["about"].tobytes())
        _check_current(path, where, about)
        rows = LmdbRows(file, about, tables["block_digest"], verify)
    except InputError as error:
        raise InputError(f"{str(error).rstrip('; ')}: build it again with {_build_command(path)}") from error
    stored = None if about["clock"] is None else Clock(**about["clock"])
    if clock is not None and clock != stored:
        raise InputError(f"{where} has the clock ({stored}), not ({clock}): leave clock out to use its own")
    check_as_stored(where, about["dtype"], parse_dtype(dtype))
    first_row, duration_s = tables["first_row"].astype(np.int64), tables["duration_s"].astype(np.float64)
    shard = Shard(where, (), about["ids"], first_row, duration_s, stored, about["encoder"], about["source"])
    shard = replace(shard, nonfinite_rows=tables.get("nonfinite_rows"))
    return rows, shard, torch.from_numpy(tables["second"].astype(np.float64)) if "second" in tables else None


def _check_current(path: Path, where: Path, about: dict[str, Any]) -> None:
    """Check that an LMDB matches its bank: by the sizes and times of the files, and if these differ by the content.

    Raises:
        InputError: the LMDB belongs to another bank, or is stale.
    """
    bank = where.with_name(about["bank"])
    if path != where and path.name != about["bank"]:
        raise InputError(f"{where} was made from {about['bank']}, not from {path.name}")
    if not bank.exists() or _stats(bank) == about["files"]:
        return
    try:
        if _content(read_shards(bank, None if about["clock"] is None else Clock(**about["clock"]))) == about["content"]:
            return  # only the times differ, as after a copy
    except InputError as error:
        _log.info("%s", error)
    raise InputError(f"{where} is stale: {bank} has changed since it was made")


class LmdbRows(Rows):
    """Rows in the blocks of an LMDB; a read touches only the blocks that hold its rows.

    Args:
        file: the LMDB.
        about: metadata with `n_rows`, `dim`, `dtype` and `block_rows`; the last block may have fewer rows.
        digests: the digest of each block.
        verify: as for `FeatureBank.open`.
    """

    def __init__(self, file: LmdbFile, about: dict[str, Any], digests: np.ndarray, verify: Verify) -> None:
        self.file, self.n_rows, self.dim = file, about["n_rows"], about["dim"]
        self.dtype, self.device = getattr(torch, about["dtype"]), torch.device("cpu")
        self._stored = np.dtype(about["dtype"]).newbyteorder("<")
        self._digests = RowDigests(file.path, about["block_rows"], digests.astype(np.uint64))
        self.digests = [self._digests]
        self._verify_reads = verify == "first_read"
        self.verify_opening(verify)

    def select(
        self, row: Int64[Tensor, " batch"], out: Shaped[Tensor, "batch dim"] | None = None
    ) -> Shaped[Tensor, "batch dim"]:
        """Copy single rows, in the bank's dtype, into `out` or a new tensor; indices must be within bounds.

        Consecutive indices of one block cost one look-up, so sorted indices are fastest.
        """
        if out is None:
            out = torch.empty(len(row), self.dim, dtype=self.dtype)
        self.copy_to(row, torch.arange(len(row)), out)
        return out

    def copy_to(
        self, row: Int64[Tensor, " taken"], slot: Int64[Tensor, " taken"], out: Shaped[Tensor, "slots dim"]
    ) -> bool:
        """Copy rows to slots of `out`, converted to its dtype; returns True."""
        if not len(row):
            return True
        index, place = row.numpy(), slot.numpy()
        block = index // self._digests.block_rows
        inside = index - block * self._digests.block_rows
        breaks = np.diff(block) != 0
        run_breaks = breaks | (np.diff(inside) != 1) | (np.diff(place) != 1)
        by_run = len(index) >= 2 * (1 + np.count_nonzero(run_breaks))
        edges = np.flatnonzero(run_breaks if by_run else breaks) + 1
        begin, end = np.append(0, edges), np.append(edges, len(index))
        parts = zip(block[begin].tolist(), begin.tolist(), end.tolist(), strict=True)
        target = out.numpy() if out.dtype == self.dtype else None
        with self.file.reading() as transaction, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            if not by_run:
                for number, first, last in parts:
                    rows = self._block(transaction, number, self._verify_reads)[inside[first:last]]
                    out[place[first:last]] = torch.from_numpy(rows).to(out.dtype)
                return True
            runs = zip(parts, inside[begin].tolist(), place[begin].tolist(), strict=True)
            for (number, first, last), at, to in runs:
                rows = self._block(transaction, number, self._verify_reads)[at : at + last - first]
                if target is not None:
                    target[to : to + last - first] = rows
                else:
                    out[to : to + last - first] = torch.from_numpy(rows)
        return True

    def verify(self, row: Int64[Tensor, " taken"], always: bool = False) -> None:
        """Compare the blocks that hold these rows with their checksums if `always`; else `select` does it."""
        if always:
            self.verify_blocks(0, np.unique(row.numpy() // self._digests.block_rows))

    def verify_blocks(self, piece: int, blocks: Int64[np.ndarray, " blocks"]) -> None:
        """Compare blocks with their checksums; all rows are one piece."""
        with self.file.reading() as transaction:
            for block in blocks.tolist():
                self._block(transaction, block, True)

    def _block(self, transaction: Any, block: int, verify: bool) -> np.ndarray:
        rows = np.frombuffer(transaction.get(block_key(block)), dtype=self._stored).reshape(-1, self.dim)
        if verify and self._digests.pending[block]:
            self._digests.check_block(block, rows)
        return rows
