"""The files of a bank: which they are, and that they agree."""

import logging
from collections.abc import Callable
from pathlib import Path

from clep.bank.clock import Clock
from clep.bank.format import FORMAT, Shard, file_format, open_hdf5, read_shard
from clep.bank.per_video import looks_per_video, read_per_video
from clep.errors import InputError

_log = logging.getLogger(__name__)


def read_shards(path: Path, clock: Clock | None = None) -> list[Shard]:
    """Read what the files of a bank say about themselves, in the order of their names.

    Args:
        path: a bank file; a folder of them, in which other HDF5 files and hidden ones are left alone; or a file in the
            tutorial's layout, for which `clock` is required.
        clock: for a bank that has its own, it must be the same.

    Raises:
        InputError: no bank there, a file that cannot be read, or files that disagree in clock, dim or encoder or share
            a video; names both files and what they say.
    """
    shards = _read_folder(path) if path.is_dir() else [_read_file(path, clock)]
    first = shards[0]
    if clock is not None and first.clock != clock:
        raise InputError(f"{first.path} has the clock ({first.clock}), not ({clock}): leave clock out to use its own")
    facts: dict[str, Callable[[Shard], object]] = {
        "dim": lambda s: s.dim,
        "clock": lambda s: s.clock,
        "encoder": lambda s: s.encoder,
    }
    for other in shards[1:]:
        for name, fact in facts.items():
            if fact(first) != fact(other):
                raise InputError(
                    f"{first.path} and {other.path} disagree in {name}: {fact(first)} and {fact(other)}. "
                    f"Shards of one bank must agree; move one of them out of the folder or write it again"
                )
    if len(shards) > 1:
        _check_distinct(shards)
    return shards


def _read_file(path: Path, clock: Clock | None) -> Shard:
    with open_hdf5(path) as file:
        return read_per_video(file, path, clock) if looks_per_video(file) else read_shard(file, path)


def _read_folder(folder: Path) -> list[Shard]:
    shards = []
    for path in sorted(folder.glob("*.h5"), key=lambda p: p.name):
        if path.name.startswith("."):
            continue
        with open_hdf5(path) as file:
            if file_format(file) == FORMAT:
                shards.append(read_shard(file, path))
            else:
                _log.info("%s is not a bank (format %r) and is left out", path, file_format(file))
    if not shards:
        raise InputError(f"the folder {folder} holds no bank: no *.h5 file there has the format {FORMAT!r}")
    return shards


def _check_distinct(shards: list[Shard]) -> None:
    owner: dict[str, Path] = {}
    for shard in shards:
        for uid in shard.ids:
            if uid in owner:
                raise InputError(
                    f"video {uid!r} is in both {owner[uid]} and {shard.path}; a bank holds a video once: "
                    f"remove one of the files"
                )
            owner[uid] = shard.path
