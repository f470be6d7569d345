"""Checkpoint files: written atomically, with a checksum inside the file, and read without running code."""

import os
from pathlib import Path
from typing import Any

import torch
import xxhash

from clep.checksums import check_digest, warn_unverified
from clep.errors import InputError
from clep.files import atomic_path, check_input

# A checkpoint of torch.save is a zip archive. Its comment, at the end of the file, holds the digest of the rest.
_END, _END_BYTES = b"PK\x05\x06", 22  # signature and size of the record before the comment
_MARK = b"clep-xxh3-128:"
_DIGITS = 32
_BLOCK = 1 << 24


def write_checkpoint(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Save a checkpoint atomically, with a checksum; `torch.load` reads it as any other.

    Raises:
        InputError: the disk is full, or the folder is not writable.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)
            _append_digest(temporary)
    except RuntimeError as error:  # torch.save on a full disk
        raise InputError(
            f"cannot write {path} ({str(error).splitlines()[0]}); free some space or choose another folder with "
            f"paths.runs=DIR, then continue with ckpt_path=last"
        ) from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU without running pickled code; warns if it has no checksum.

    Raises:
        InputError: it is missing, truncated, damaged, or an unsafe pickle.
    """
    path = check_input(path)
    try:
        found = check_file_digest(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if reason.startswith("Weights only load failed"):  # PyTorch's advice there is to run code of the file
            reason = "it is another kind of file, or a pickle with code"
        raise InputError(
            f"{path} cannot be read as a checkpoint ({reason}); it may be truncated, or not written by clep: "
            f"copy it again"
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(
            f"{path} is not a checkpoint: it holds a {type(checkpoint).__name__}, not a dict; give a .ckpt of a run"
        )
    if not found:
        warn_unverified(path, "a run that continues from it writes checkpoints with checksums")
    return checkpoint


def _append_digest(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)  # the length of the comment, so far 0
        file.write((len(_MARK) + _DIGITS).to_bytes(2, "little") + _MARK)
    digest = _prefix_digest(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(digest.encode())


def check_file_digest(path: str | Path) -> bool:
    """Compare a checkpoint with the digest in it; returns False if it has none.

    Raises:
        InputError: they differ.
        OSError: the file cannot be read.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_BYTES - len(_MARK) - _DIGITS))
        _, found, end = file.read().rpartition(_END)
    length, comment = end[_END_BYTES - len(_END) - 2 :][:2], end[_END_BYTES - len(_END) :]
    if not found or (length == b"\0\0" and not comment):
        return False  # not an archive, which torch.load refuses; or without a comment
    stored = comment.removeprefix(_MARK).decode("ascii", "replace")
    remedy = "copy it again, or continue from another checkpoint (ckpt_path=last takes the newest undamaged one)"
    check_digest(path, "the file", stored, _prefix_digest(path, size - _DIGITS), remedy)
    return True


def _prefix_digest(path: Path, size: int) -> str:
    """Return the digest of the first `size` bytes of a file."""
    whole = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while size and (block := file.read(min(size, _BLOCK))):
            whole.update(block)
            size -= len(block)
    return whole.hexdigest()
