"""Opening HDF5 files of others: every byte that is read lies in the file itself, and every fault is one InputError.

HDF5 lets a file point elsewhere: external and soft links, datasets stored in other files, virtual datasets. A file that
came from a stranger could then show the content of any readable file as features, so all of these are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from clep.errors import InputError

# What h5py raises where metadata are broken, depending on where.
_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, OverflowError, MemoryError, SystemError)

REMEDY = "copy it again or run the job that wrote it"


@contextmanager
def open_hdf5(path: str | Path, check_storage: bool = True) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, without a lock. Faults of reading inside the block become InputErrors too.

    Args:
        path: the file.
        check_storage: refuse datasets that are virtual or stored in other files before the block begins. A reader of
            files with thousands of datasets passes False and calls `refuse_outside_storage` on each that it reads.

    Raises:
        InputError: it does not exist, cannot be read, is not HDF5, is truncated or damaged, or refers to other files.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    try:
        file = h5py.File(path, "r", locking=False)
    except _FAULTS as error:
        try:
            known = h5py.is_hdf5(path)
        except _FAULTS:
            known = False
        state = "is truncated or damaged" if known else "is not an HDF5 file, or is truncated"
        raise InputError(f"{path} {state} ({_first_line(error)}); {REMEDY}") from error
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
