"""Digests of input files: they tell whether an output still belongs to the inputs that lie there now."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from clep.files import open_input

TAIL_BYTES = 1024


def file_digest(*paths: str | Path | None) -> str:
    """Digest whole files by their content (None is a file that was not given), as 32 hex digits.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        if path is None:
            digest.update(b"none")
            continue
        with open_input(path) as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def folder_digest(files: Iterable[Path]) -> str:
    """Digest many large files by name, size and last kilobyte, as 32 hex digits.

    The end of a `.pt` file is its zip directory, which holds a checksum of the data, so features that were extracted
    again under the same names and sizes are noticed, while a copied or touched folder stays the same.

    Raises:
        InputError: a file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        with open_input(path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            digest.update(f"{path.name}\0{size}\0".encode())
            digest.update(file.read())
    return digest.hexdigest()
