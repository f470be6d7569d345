"""Interfaces of the engine: items with id and fingerprint, and the encoders that turn them into rows."""

import heapq
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import median
from typing import ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clep.bank import Clock
from clep.errors import InputError
from clep.remote import fingerprint, is_remote

Dtype = Literal["float16", "float32", "uint8"]
OnError = Literal["skip", "stop"]
Rows = np.ndarray | Tensor

_ENDS_BYTES = 4096


@runtime_checkable
class Item(Protocol):
    """One unit of work, such as a video, a feature file or a chunk of sentences; immutable and picklable."""

    @property
    def id(self) -> str:
        """Unique id; a bank is in the order of ids."""

    @property
    def fingerprint(self) -> str:
        """Digest of the inputs of the item's rows, besides the settings; if it changes, the item is encoded again."""

    @property
    def cost(self) -> float | int:
        """Cost in any unit, e.g. seconds of video; NaN if unknown."""

    @property
    def max_rows(self) -> int | None:
        """Upper bound of the item's row count; None if unknown."""


AnyItem = TypeVar("AnyItem", bound=Item)


@dataclass(frozen=True)
class RowFacts:
    """Facts about an item that are known after its rows are computed.

    Attributes:
        seconds: `[rows]`, start of each row; only for an irregular clock.
        duration_s: duration for the bank, None or NaN if unknown.
        video_s: seconds of video that were encoded, for the ledger.
        corrupt_packets: undecodable packets of the file, which were skipped.
        note: a remark for the ledger about an item that is done.
    """

    seconds: Float[np.ndarray, " rows"] | None = None
    duration_s: float | None = None
    video_s: float | None = None
    corrupt_packets: int = 0
    note: str = ""


@dataclass(frozen=True)
class EncodedItem:
    """The rows of one item, computed while iterating over `blocks`.

    Attributes:
        item: the item.
        blocks: arrays `[n, dim]` in order. Iterating raises InputError if the item is unusable.
        facts: called after all blocks.
    """

    item: Item
    blocks: Iterable[Rows]
    facts: Callable[[], RowFacts] = RowFacts


@runtime_checkable
class RowEncoder(Protocol):
    """Function from items to rows, loaded once per worker.

    `encode` gets all items of a shard and forms the batches of parts (clips, images, sentences) itself; a batch may
    hold parts of several items. It yields each item once, in any order. As with `itertools.groupby`, the blocks of an
    item must be consumed before the generator is advanced to the next one.
    """

    @property
    def name(self) -> str:
        """Name of the encoder, recorded in banks."""

    @property
    def dim(self) -> int:
        """Feature dimension."""

    def encode(self, items: Sequence[Item], begin: Callable[[Item], None]) -> Iterator[EncodedItem]:
        """Yield the rows of each item.

        Args:
            items: all items to encode.
            begin: to be called before an item is read ahead of the one being yielded, so that a crash of this process
                can be attributed; from any thread.
        """


class RowSource(ABC):
    """How items become rows: a frozen dataclass of settings, pickled to the workers, which load the encoder.

    Its `repr` must contain all settings, since a worker loads one encoder per `repr`.

    Attributes:
        noun: name of the items in the plural, e.g. "videos".
        dtype: dtype of the rows.
        allow_nonfinite: whether rows may hold NaN or infinity.
    """

    noun: ClassVar[str]
    dtype: Dtype
    allow_nonfinite: bool = False

    @property
    @abstractmethod
    def key(self) -> str:
        """Digest of all settings that the rows depend on; all rows of a bank have the same key."""

    @abstractmethod
    def bank_clock(self) -> Clock | None:
        """Return the clock of the bank; None for texts."""

    @abstractmethod
    def load(self) -> RowEncoder:
        """Load the encoder in the process that encodes.

        Raises:
            InputError: it cannot be loaded, or its device is missing.
        """

    def entry(self, item_id: str) -> str:
        """Return the bank's video id for an item; consecutive items may share one."""
        return item_id


def file_fingerprint(path: str | Path) -> str:
    """Digest the size, beginning and end of a file, of a remote one its size and ETag; "" if it cannot be read.

    Copies of a local file have the same fingerprint, independent of their dates. The end of a `.pt` file is its zip
    directory, with checksums of the data.

    Raises:
        InputError: the store of a remote file refuses to answer or cannot be reached.
    """
    if is_remote(path):
        return fingerprint(path)
    try:
        if not Path(path).is_file():  # opening a FIFO would wait for a writer
            return ""
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = blake2b(file.read(_ENDS_BYTES), digest_size=8)
            file.seek(max(0, size - _ENDS_BYTES))
            digest.update(file.read(_ENDS_BYTES))
    except OSError:
        return ""
    return f"{size}-{digest.hexdigest()}"


def printable(text: str) -> str:
    """Escape bytes of a file name that are not UTF-8 as `\\xff`, so that the text can be printed and stored."""
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that is not from a file name
        return text.encode("utf-8", "backslashreplace").decode()


def select_items(items: Sequence[AnyItem], ids: Sequence[str] | str | None, limit: int | None) -> list[AnyItem]:
    """Return the first `limit` of the items with these ids.

    Args:
        items: all items.
        ids: a list, or the path of a text file with one id per line; None selects all.
        limit: None selects all.

    Raises:
        InputError: an id that is not among the items, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} must be at least 1")
    selected = list(items)
    if ids is not None:
        names = _read_ids(ids) if isinstance(ids, str) else [str(name) for name in ids]
        unknown = sorted(set(names) - {item.id for item in items})
        if unknown:
            raise InputError(
                f"ids: {len(unknown)} of {len(names)} are not among the {len(items)} videos, the first is "
                f"{unknown[0]!r}; correct or remove them"
            )
        selected = [item for item in items if item.id in set(names)]
    return selected[:limit]


def _read_ids(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"ids={path!r} is not a readable text file of ids ({error}); for a list write ids=[a,b]"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def parse_part(part: str | None) -> tuple[int, int] | None:
    """Read `shard=i/n`, with i from 0, as (i, n).

    Raises:
        InputError: it has another form, or i is not below n.
    """
    if part is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if not found or int(found[1]) >= int(found[2]):
        raise InputError(f"shard={part!r} must be i/n with i from 0 to n - 1, e.g. shard=0/4")
    return int(found[1]), int(found[2])


def part_of(items: Sequence[AnyItem], part: tuple[int, int]) -> list[AnyItem]:
    """Return the items of part i of n; it depends on all items, not on which are done, so machines agree about it."""
    index, count = part
    by_id = {item.id: item for item in items}
    shards = shards_of(items, count)
    return [by_id[name] for name in shards[index]] if index < len(shards) else []


def shards_of(items: Sequence[AnyItem], n_shards: int) -> list[list[str]]:
    """Cut items into shards by `cut_into_shards`; items with the same `group` stay together.

    Args:
        items: `group` is an optional attribute, e.g. the video of a span; an item without one is its own group.
        n_shards: how many shards to make.

    Returns:
        The ids of each shard, sorted.
    """
    groups: dict[str, list[AnyItem]] = {}
    for item in items:
        groups.setdefault(getattr(item, "group", item.id), []).append(item)
    costs = {name: sum(item.cost for item in group) for name, group in groups.items()}
    return [sorted(item.id for name in shard for item in groups[name]) for shard in cut_into_shards(costs, n_shards)]


def cut_into_shards(costs: Mapping[str, float | int], n_shards: int) -> list[list[str]]:
    """Cut items into shards of similar total cost, the most expensive shard first.

    Longest processing time first (Graham 1969): items in descending cost, each to the shard with the lowest cost so
    far; at most a third above the optimum. The result depends only on items and costs, not on their order.

    Args:
        costs: cost by item, in any unit, e.g. seconds of video. NaN (unknown) counts as the median of the known costs.
        n_shards: count of shards. With fewer items, each item is one shard.

    Returns:
        The items of each shard, sorted by name; no shard is empty.

    Raises:
        InputError: `n_shards` is not positive, or a cost is negative or infinite.
    """
    if n_shards < 1:
        raise InputError(f"n_shards={n_shards} must be at least 1")
    for item, cost in costs.items():
        if cost < 0 or math.isinf(cost):
            raise InputError(f"the cost of {item!r} is {cost}; it should be 0 or more, or NaN where it is unknown")
    known = [float(cost) for cost in costs.values() if not math.isnan(cost)]
    usual = median(known) if known else 1.0
    items = sorted((-usual if math.isnan(cost) else -float(cost), item) for item, cost in costs.items())
    shards: list[list[str]] = [[] for _ in range(min(n_shards, len(items)))]
    # Among shards of equal cost the one with fewer items is next, so that items without cost are distributed too.
    loads = [(0.0, 0, index) for index in range(len(shards))]
    for minus_cost, item in items:
        load, count, index = heapq.heappop(loads)
        shards[index].append(item)
        heapq.heappush(loads, (load - minus_cost, count + 1, index))
    by_cost = sorted((-load, sorted(shards[index])) for load, _, index in loads)
    return [shard for _, shard in by_cost]
