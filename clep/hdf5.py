"""Opening HDF5 files of others: every byte that is read lies in the file itself, and every fault is one InputError.

HDF5 lets a file point elsewhere: external and soft links, datasets stored in other files, virtual datasets. A file that
came from a stranger could then show the content of any readable file as features, so all of these are refused.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from clep.checksums import check_digest, digest, warn_unverified
from clep.errors import InputError
from clep.files import atomic_path, check_input

# What h5py raises where metadata are broken, depending on where.
_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError, SystemError)

REMEDY = "copy it again or run the job that wrote it"
_OF_ONE_VIDEO = (
    ". A .npy, .npz or .pt file holds the features of one video; python -m clep.preprocess features packs a folder of "
    "them into a bank"
)


@contextmanager
def open_hdf5(path: str | Path, check_storage: bool = True, content: io.RawIOBase | None = None) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, without a lock. Faults of reading inside the block become InputErrors too.

    Args:
        path: the file.
        check_storage: refuse datasets that are virtual or stored in other files before the block begins. A reader of
            files with thousands of datasets passes False and calls `refuse_outside_storage` on each that it reads.
        content: the open file, where it is not a local one.

    Raises:
        InputError: it does not exist, cannot be read, is not HDF5, is truncated or damaged, or refers to other files.
    """
    path = check_input(path) if content is None else Path(path)
    try:
        file = h5py.File(path, "r", locking=False) if content is None else h5py.File(content, "r")
    except _FAULTS as error:
        try:
            known = content is None and h5py.is_hdf5(path)
        except _FAULTS:
            known = False
        state = "is truncated or damaged" if known else "is not an HDF5 file, or is truncated"
        hint = _OF_ONE_VIDEO if path.suffix in (".npy", ".npz", ".pt", ".pth") else ""
        raise InputError(f"{path} {state} ({_first_line(error)}); {REMEDY}{hint}") from error
    with file:
        try:
            _refuse_links(file, path, check_storage)
            yield file
        except InputError:
            raise
        except _FAULTS as error:
            raise InputError(f"{path} is damaged ({type(error).__name__}: {_first_line(error)}); {REMEDY}") from error


def refuse_outside_storage(dataset: h5py.Dataset, path: str | Path) -> None:
    """Refuse a dataset whose values lie in another file.

    Raises:
        InputError: it is virtual or has external storage; names the file and the dataset.
    """
    created = dataset.id.get_create_plist()
    if created.get_layout() == h5py.h5d.VIRTUAL or created.get_external_count():
        raise InputError(
            f"{path}: the dataset {str(dataset.name).lstrip('/')!r} is stored in another file, which is refused; "
            f"copy its values into this file"
        )


@dataclass(frozen=True)
class TableFile:
    """What `read_table_file` found.

    Attributes:
        attributes: texts beside the columns.
        columns: arrays of numbers, and lists of texts, by name.
        verified: whether all of it matches a stored checksum; False for a file of an older clep.
    """

    attributes: dict[str, str]
    columns: dict[str, np.ndarray | list[str]]
    verified: bool


def write_table_file(
    path: str | Path,
    file_format: str,
    version: int,
    attributes: Mapping[str, str],
    columns: Mapping[str, np.ndarray | Sequence[str]],
) -> None:
    """Write columns that are read whole, with one checksum of them all, atomically.

    Texts are stored with a fixed length: damaged strings of variable length send libhdf5 into endless loops.

    Args:
        path: of the file.
        file_format, version: what the reader requires.
        attributes: short texts.
        columns: by name ("clip/id"); arrays of numbers or sequences of texts.

    Raises:
        InputError: the disk is full or the folder cannot be written to.
    """
    kept = {name: values if isinstance(values, np.ndarray) else list(values) for name, values in columns.items()}
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"], file.attrs["version"] = np.bytes_(file_format), version
        file.attrs["digest"] = np.bytes_(_table_digest(file_format, version, attributes, kept))
        for name, text in attributes.items():
            file.attrs[name] = np.bytes_(text.encode())
        for name, values in kept.items():
            if isinstance(values, list):
                encoded = [text.encode() for text in values]
                dtype = h5py.string_dtype("utf-8", max([1, *map(len, encoded)]))
                values = np.array(encoded, dtype=dtype)
            file.create_dataset(name, data=values)


def read_table_file(
    path: str | Path, file_format: str, version: int, unverified_versions: int, what: str, remedy: str
) -> TableFile:
    """Read what `write_table_file` wrote, all of it, and compare it with its checksum.

    Args:
        path: of the file.
        file_format, version: that it must have; `version` is the latest.
        unverified_versions: files up to this version have no checksum of this kind and open with a warning.
        what: for messages, "a file of labelled clips".
        remedy: for messages, how to make it again.

    Raises:
        InputError: the file is missing, damaged, of another format, or of a later version.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; {remedy}")
    with open_hdf5(path) as file:
        found, written = _text(file.attrs.get("format")), int(file.attrs.get("version", 0))
        if found != file_format or not 1 <= written <= version:
            raise InputError(f"{path} is not {what} (format {found!r}, version {written}); {remedy}")
        verified = written > unverified_versions
        names: list[str] = []
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
        columns: dict[str, np.ndarray | list[str]] = {}
        for name in names:
            if verified and file[name].dtype.kind == "O":
                raise InputError(f"{path} is damaged: {name!r} has texts of variable length; {remedy}")
            is_text = h5py.check_string_dtype(file[name].dtype) is not None
            columns[name] = [str(text) for text in file[name].asstr()[...]] if is_text else file[name][...]
        usual = ("format", "version", "digest")
        attributes = {str(name): _text(value) for name, value in file.attrs.items() if name not in usual}
        stored, own = _text(file.attrs.get("digest")), _table_digest(file_format, written, attributes, columns)
    if verified:
        check_digest(path, "its table", stored, own, remedy)
    else:
        warn_unverified(path, remedy)
    return TableFile(attributes, columns, verified)


def _table_digest(
    file_format: str,
    version: int,
    attributes: Mapping[str, str],
    columns: Mapping[str, np.ndarray | list[str]],
) -> str:
    texts = {name: values for name, values in columns.items() if isinstance(values, list)}
    arrays = sorted((name, values) for name, values in columns.items() if isinstance(values, np.ndarray))
    described = json.dumps([file_format, version, dict(attributes), texts], sort_keys=True)
    return digest(described, *(part for pair in arrays for part in pair))


def _text(value: object) -> str:
    """Return an attribute as str; clep writes them as bytes of fixed length."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _refuse_links(file: h5py.File, path: Path, check_storage: bool) -> None:
    links: list[bytes] = []
    names: list[bytes] = []

    def look(name: bytes, info: h5py.h5l.LinkInfo) -> None:
        (names if info.type == h5py.h5l.TYPE_HARD else links).append(name)

    file.id.links.visit(look, info=True)
    if links:
        raise InputError(
            f"{path}: {links[0].decode(errors='replace')!r} is a link to elsewhere, which is refused; copy what it "
            f"points to into this file"
        )
    for name in names if check_storage else ():
        found = file[name]
        if isinstance(found, h5py.Dataset):
            refuse_outside_storage(found, path)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
