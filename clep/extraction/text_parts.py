"""Embeddings of texts in parts: what is there, what is missing, and making what is missing as tasks."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clep.compute import wait_for_files
from clep.errors import InputError
from clep.files import atomic_path
from clep.text import SentenceEncoder, Texts

logger = logging.getLogger(__name__)

_FEW_TASKS = 8
_MOST_PIECES = 16


@dataclass(frozen=True)
class Part:
    """A file with the rows of some texts of a set, from the text `start` on."""

    path: Path
    start: int
    n_rows: int

    @property
    def stop(self) -> int:
        """The text after its last one."""
        return self.start + self.n_rows


class TextParts:
    """A folder of parts: `<key>-<set>-<first text>.npy`, each `[texts, dim]` float32, whole or not there.

    Arguments:
        folder: it may not exist yet.
        key: tells parts of these texts by this encoder from others.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key

    def path(self, number: int, start: int) -> Path:
        """Return where the rows of set `number` from the text `start` on go."""
        return self.folder / f"{self._key}-{number:03d}-{start:010d}.npy"

    def of_set(self, number: int) -> list[Part]:
        """Return the parts of a set in order; of two that overlap, the first."""
        parts: list[Part] = []
        for path in sorted(self.folder.glob(f"{self._key}-{number:03d}-*.npy")):
            start = int(path.stem.rpartition("-")[2])
            if not parts or start >= parts[-1].stop:
                parts.append(Part(path, start, len(np.load(path, mmap_mode="r"))))
        return parts

    def missing(self, number: int, n_texts: int) -> list[tuple[int, int]]:
        """Return the spans of texts, first and one past the last, that no part of a set has."""
        spans, done = [], 0
        for part in self.of_set(number):
            spans.append((done, part.start))
            done = part.stop
        return [(start, stop) for start, stop in [*spans, (done, n_texts)] if start < stop]

    def incomplete(self) -> InputError:
        """Return the error for parts of which workers say that they are there, while they do not show here."""
        return InputError(
            f"{self.folder} does not show all parts that workers have written; its file system may be late: the same "
            "command again takes what shows by then and encodes the rest"
        )

    def dim(self) -> int:
        """Return the numbers in a row; 0 where there is no part yet."""
        path = next(self.folder.glob(f"{self._key}-*.npy"), None)
        return 0 if path is None else int(np.load(path, mmap_mode="r").shape[1])

    def forget_others(self) -> None:
        """Remove parts of other texts or another encoder, and what half-written ones left."""
        for path in self.folder.glob("*"):
            if path.is_file() and not path.name.startswith(self._key):
                path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def save_part(path: Path, rows: Float32[np.ndarray, "texts dim"]) -> None:
    """Write a part, whole or not at all."""
    with atomic_path(path) as temporary:
        np.save(temporary, rows, allow_pickle=False)


def between(texts: Sequence[str], start: int, stop: int) -> Sequence[str]:
    """Return some consecutive texts, still as one block of bytes where they are one."""
    return Texts(texts.blob, texts.offsets[start : stop + 1]) if isinstance(texts, Texts) else texts[start:stop]


@dataclass(frozen=True)
class EncodePieces:
    """A task: the texts of some parts, and how they are encoded.

    Attributes:
        load: returns the encoder.
        pieces: (file, texts) of each part.
    """

    load: Callable[[], SentenceEncoder]
    pieces: tuple[tuple[Path, Sequence[str]], ...]


def encode_pieces(task: EncodePieces) -> None:
    """Write the parts of a task that are not there yet."""
    left = [(path, texts) for path, texts in task.pieces if not path.exists()]
    if left:
        encoder = task.load()
        for path, texts in left:
            for _, rows in encoder.stream(texts, chunk=len(texts), progress=False):
                save_part(path, rows)


def encode_as_tasks(
    parts: TextParts, sets: Sequence[Sequence[str]], chunk: int, load: Callable[[], SentenceEncoder], compute: Any
) -> None:
    """Make the missing parts of sets of texts, of at most `chunk` texts each, by tasks that `compute` runs.

    A part is made from the same texts whichever task it belongs to, so its rows do not depend on the number of tasks. A
    task has several parts, since it must load the encoder first.

    Args:
        parts: where they go; logs go to the folder `logs` in it.
        sets: of texts.
        chunk: texts of a part.
        load: returns the encoder; it is pickled.
        compute: a `clep.compute.Local` or `Slurm`.

    Raises:
        InputError: a part could not be made, or does not show here within a minute; the others are kept.
    """
    folder = parts.folder.absolute()
    pieces: list[tuple[Path, Sequence[str]]] = []
    for number, texts in enumerate(sets):
        for first, last in parts.missing(number, len(texts)):
            for start in range(first, last, chunk):
                stop = min(start + chunk, last)
                pieces.append((folder / parts.path(number, start).name, _alone(between(texts, start, stop))))
    size = min(_MOST_PIECES, -(-len(pieces) // _FEW_TASKS)) or 1
    tasks = {
        pieces[place][0].stem: EncodePieces(load, tuple(pieces[place : place + size]))
        for place in range(0, len(pieces), size)
    }
    sizes = {path.name: len(texts) for path, texts in pieces}
    failed = _run(tasks, sizes, folder, compute)
    if failed:
        raise InputError(
            f"{len(failed)} of {len(tasks)} tasks that encode texts failed; what the others made is kept, and the same "
            f"command again continues. The first: {next(iter(failed.values()))}"
        )
    if wait_for_files(lambda: [name for name in sizes if not (folder / name).exists()], folder):
        raise parts.incomplete()


def _run(tasks: Mapping[str, EncodePieces], sizes: Mapping[str, int], folder: Path, compute: Any) -> dict[str, str]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        shown = bar.add_task(f"encoding texts, {len(tasks)} tasks", total=sum(sizes.values()))

        def watch() -> None:
            there = {path.name for path in folder.iterdir()}
            bar.update(shown, completed=sum(size for name, size in sizes.items() if name in there))

        return compute.run(encode_pieces, tasks, folder / "logs", watch)


def _alone(texts: Sequence[str]) -> Sequence[str]:
    """Return the texts without the rest of the block that they lie in: a task is pickled."""
    if not isinstance(texts, Texts):
        return texts
    first, last = int(texts.offsets[0]), int(texts.offsets[-1])
    return Texts(np.array(texts.blob[first:last]), texts.offsets - first)
