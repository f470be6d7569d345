"""`MomentIndex`: the embeddings of all windows of a bank, kept in a file beside it and searched.

The file is itself a bank of float16 rows of unit length, one per moment, so that checksums, atomic writing and mapping
are those of every bank. Its `source` is a JSON of what the rows depend on: the bank's digest, the model's, and the
windows. An index of another content is built again.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from clep.bank import BankWriter, Clock, FeatureBank
from clep.checksums import digest
from clep.compute.locks import file_lock
from clep.errors import InputError
from clep.index import exact
from clep.index.grid import MomentGrid
from clep.index.inverted_file import InvertedFile, import_faiss
from clep.progress import progress_bar
from clep.remote import user_cache

APPROXIMATE_ABOVE = 2_000_000
MOMENTS_AT_ONCE = 65_536
_SUFFIX = ".moments"

_log = logging.getLogger(__name__)

Embed = Callable[
    [Int64[Tensor, " moments"], Float64[Tensor, " moments"], Float64[Tensor, " moments"]],
    Float[Tensor, "moments embed"],
]
"""Embeddings of moments: indices of their videos in the bank, their first and their last seconds."""


@dataclass(frozen=True)
class IndexSettings:
    """What the rows of an index depend on besides the bank.

    Attributes:
        model: digest of the model, its window and its context.
        window_s: length of a moment in seconds.
        stride_s: seconds from the start of one moment to the next.

    Examples:
        >>> from pathlib import Path
        >>> from clep.index import IndexSettings, index_path
        >>> index_path(Path("features.h5"), IndexSettings("digest of the model", window_s=4.0, stride_s=1.0)).suffix
        '.moments'
    """

    model: str
    window_s: float
    stride_s: float


def index_path(bank: Path, settings: IndexSettings) -> Path:
    """Return the file of an index: `features.1a2b3c4d.moments` beside `features.h5`."""
    stem = bank.stem if bank.suffix in (".h5", ".hdf5", ".lmdb") else bank.name
    key = digest(settings.model, f"{settings.window_s!r} {settings.stride_s!r}")[:8]
    return bank.with_name(f"{stem}.{key}{_SUFFIX}")


class MomentIndex:
    """The moments of a bank with their embeddings; see `MomentIndex.open`.

    Attributes:
        bank: the bank of features.
        grid: which video and seconds a moment is.
        rows: bank of the embeddings, float16, of unit length; NaN for a moment that has none.
        approximate: the inverted file; None where every search is exact.

    Examples:
        >>> import clep
        >>> from clep.bank import FeatureBank
        >>> model, bank = clep.load("model", device="cpu"), FeatureBank.open("features.h5")
        >>> index = model.index(bank, window_s=4.0, stride_s=1.0)  # built beside the bank, the first time
        >>> moments, scores = index.search(model.query(["opens the fridge"]), top=3)
        >>> len(index), moments.shape, scores.shape
        (696, (3,), (3,))
    """

    def __init__(
        self, bank: FeatureBank, grid: MomentGrid, rows: FeatureBank, approximate: InvertedFile | None = None
    ) -> None:
        self.bank, self.grid, self.rows, self.approximate = bank, grid, rows, approximate

    @classmethod
    def open(
        cls,
        bank: FeatureBank,
        settings: IndexSettings,
        embed: Embed,
        probe_queries: Callable[[], Float[Tensor, "queries embed"]],
        approximate_above: int | None = APPROXIMATE_ABOVE,
    ) -> "MomentIndex":
        """Open the index of a bank; build it where it is missing, or made of another content.

        Args:
            bank: with a clock.
            settings: see `IndexSettings`.
            embed: embeddings of moments.
            probe_queries: embeddings of sentences on which the recall of an approximate search is measured.
            approximate_above: search more moments than this by faiss; None: never.

        Raises:
            InputError: the bank has no clock, a length is not positive, faiss is needed and missing, or no folder can
                be written to.
        """
        grid = MomentGrid(bank.end_s.cpu().numpy(), settings.window_s, settings.stride_s)
        path, fingerprint = index_path(bank.path, settings), _fingerprint(bank, settings)
        rows = _open_rows(path, fingerprint) or _open_rows(_cached(path), fingerprint)
        if rows is None:
            rows = _build_anywhere(path, fingerprint, bank, grid, embed)
        approximate = None
        if approximate_above is not None and len(grid) > approximate_above:
            approximate = _open_approximate(rows, probe_queries)
        return cls(bank, grid, rows, approximate)

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def recall(self) -> float:
        """Share of the ten nearest moments that a search finds, as measured when the index was built."""
        return 1.0 if self.approximate is None else self.approximate.recall

    def search(self, query: Float32[Tensor, " embed"], top: int, videos: Iterable[int] | None = None) -> exact.Found:
        """Return the moments that fit a query best, best first, none overlapping another, and their dot products.

        Args:
            query: of at most unit length: an embedding, or the mean of several, whose dot product is the mean cosine.
            top: how many moments at the most.
            videos: indices of the videos to search; None for all. Fewer videos are searched exactly.
        """
        inside = None if videos is None else self.grid.moments_of(videos)
        total = len(self) if inside is None else len(inside)
        count = max(64, 2 * top * int(np.ceil(self.grid.window_s / self.grid.stride_s)))
        while True:
            moments, scores = self.nearest(query, min(count, total), inside)
            kept = self.grid.without_overlaps(moments, top)
            if len(kept) >= top or count >= total:
                return moments[kept], scores[kept]
            count *= 4

    def scores(
        self, moments: Int64[np.ndarray, " moments"], queries: Float32[Tensor, "queries embed"]
    ) -> Float32[np.ndarray, "moments queries"]:
        """Return the dot products of moments with queries."""
        return exact.dot_products(self.rows, moments, queries)

    def embedding(self, moment: int) -> Float32[Tensor, " embed"]:
        """Return the embedding of a moment."""
        return self.rows.take(moment)[0]

    def nearest(
        self, query: Float32[Tensor, " embed"], count: int, inside: Int64[np.ndarray, " moments"] | None = None
    ) -> exact.Found:
        """Return the moments nearest to a query, overlapping ones too, and their dot products; see `search`.

        Args:
            query: of at most unit length.
            count: how many at the most.
            inside: search these moments only, ascending.

        Raises:
            InputError: the file of the index is damaged.
        """
        try:
            if inside is not None:
                return exact.best_of(self.rows, inside, query, count)
            if self.approximate is not None:
                found = self.approximate.search(self.rows, query, count)
                if len(found[0]) >= count:
                    return found
            return exact.nearest(self.rows, query, count)
        except InputError as error:  # rows are compared with their checksums when they are first read
            raise InputError(f"{error}; or delete this file: the next search builds it again") from error


def _fingerprint(bank: FeatureBank, settings: IndexSettings) -> str:
    content = {"bank": bank.digest, "model": settings.model, "window": [settings.window_s, settings.stride_s]}
    return json.dumps({"format": "clep-index", "version": 1, **content})


def _open_rows(path: Path, fingerprint: str) -> FeatureBank | None:
    """Open the rows of an index; None where there is none, or one of another content or damaged."""
    if not path.is_file():
        return None
    try:
        rows = FeatureBank(path)
        if rows.source == fingerprint:
            return rows
        _log.info("%s was built from an earlier version of its bank; building it again", path)
    except InputError as error:
        _log.warning("building the index again: %s", error)
    return None


def _cached(path: Path) -> Path:
    """Return where an index lies whose bank is in a folder that cannot be written to."""
    return user_cache() / "indexes" / f"{digest(str(path.absolute()))[:16]}-{path.name}"


def _build_anywhere(path: Path, fingerprint: str, bank: FeatureBank, grid: MomentGrid, embed: Embed) -> FeatureBank:
    """Build beside the bank, or in the user's cache where that folder cannot be written to."""
    writable = os.access(path.parent, os.W_OK)
    path = path if writable else _cached(path)
    if not writable:
        _log.info("the bank's folder cannot be written to: its index is %s", path)
    with file_lock(path):
        rows = _open_rows(path, fingerprint)  # another process may have built it meanwhile
        if rows is not None:
            return rows
        with progress_bar("index: moments", len(grid)) as advance:
            blocks = _embedded(grid, embed, advance)
            first = next(blocks)
            clock = Clock(1 / grid.stride_s, grid.window_s)
            with BankWriter(
                path, first[1].shape[1], clock, "float16", source=fingerprint, allow_nonfinite=True, n_rows=len(grid)
            ) as writer:
                for video, pieces in groupby(chain([first], blocks), key=itemgetter(0)):
                    writer.add(bank.videos[video], (rows for _, rows in pieces))
    return FeatureBank(path)


def _embedded(
    grid: MomentGrid, embed: Embed, advance: Callable[[int], None]
) -> Iterator[tuple[int, Float32[Tensor, "moments embed"]]]:
    """Yield the index of a video and unit-length embeddings of its next moments, in order."""
    for begin in range(0, len(grid), MOMENTS_AT_ONCE):
        moment = np.arange(begin, min(begin + MOMENTS_AT_ONCE, len(grid)))
        video, start_s, end_s = grid.spans(moment)
        rows = embed(torch.from_numpy(video), torch.from_numpy(start_s), torch.from_numpy(end_s)).float()
        rows = normalize(rows, dim=-1)
        for one in np.unique(video).tolist():
            lower, upper = np.searchsorted(video, [one, one + 1]).tolist()
            yield one, rows[lower:upper]
        advance(len(moment))


def _open_approximate(rows: FeatureBank, probe_queries: Callable[[], Float[Tensor, "queries embed"]]) -> InvertedFile:
    import_faiss()
    path = rows.path.with_name(f"{rows.path.name}.ivf")
    with file_lock(path):
        try:
            found = InvertedFile.open(path, rows.digest)
        except InputError as error:
            _log.warning("building the approximate index again: %s", error)
            found = None
        if found is None:
            queries = normalize(probe_queries().float(), dim=-1)
            with progress_bar("index: inverted lists", rows.n_rows) as advance:
                found = InvertedFile.build(path, rows.digest, rows, queries, advance)
    return found
