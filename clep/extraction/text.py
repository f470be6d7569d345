"""Sentences → a bank of their embeddings, chunk by chunk."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from clep.bank import FeatureBank
from clep.compute import Local
from clep.config.build import build_typed
from clep.errors import InputError
from clep.extraction.coverage import Coverage
from clep.extraction.engine import NOT_VISIBLE, Engine, ShardSize, shards_folder
from clep.extraction.items import Dtype, EncodedItem, Item, RowSource
from clep.extraction.shard import Finished
from clep.models.published import load_sentence_encoder
from clep.text import SentenceEncoder, Texts, sentence_model_name

logger = logging.getLogger(__name__)

Device = str | list[str] | None
CHUNK = 8192
_FEWEST_SHARDS = 8
_MAX_CHUNKS_PER_SHARD = 16


def load_encoder(name: str, device: Device, batch_size: int) -> SentenceEncoder:
    """Load a sentence encoder; a separate function, so that tests can replace it."""
    return load_sentence_encoder(name, device, batch_size)


def text_bank_path(folder: str | Path, stem: str, encoder: str) -> Path:
    """Return the path of a text bank: `<folder>/<stem>.<encoder>.h5`."""
    return Path(folder) / f"{stem}.{sentence_model_name(encoder)}.h5"


@dataclass(frozen=True)
class TextChunk:
    """Consecutive texts of a set, see `Item`; pickled without the rest of the set.

    Attributes:
        id: `<set>-<first>-<one past the last>`, zero-padded, so that ids sort in the order of the texts.
        texts: texts of the chunk.
        fingerprint: digest of the texts.
    """

    id: str
    texts: Sequence[str]
    fingerprint: str

    @property
    def cost(self) -> int:
        """The number of texts."""
        return len(self.texts)

    @property
    def max_rows(self) -> int:
        """The number of texts."""
        return len(self.texts)

    def __reduce__(self) -> tuple[Any, ...]:
        return TextChunk, (self.id, _own_bytes(self.texts), self.fingerprint)


@dataclass(frozen=True)
class SentenceRows(RowSource):
    """Embeds chunks of texts with a sentence encoder.

    Attributes:
        encoder: name or path of the sentence encoder.
        sets: names of the sets of texts, which are the "videos" of the bank.
        device: device of the encoder; None: all GPUs, or the CPU without GPUs.
        batch_size: texts per batch.
    """

    encoder: str
    sets: tuple[str, ...]
    device: Device = None
    batch_size: int = 256
    noun: ClassVar[str] = "chunks of texts"
    dtype: Dtype = "float32"

    @property
    def key(self) -> str:
        """Digest of the encoder's name."""
        return blake2b(sentence_model_name(self.encoder).encode(), digest_size=6).hexdigest()

    def bank_clock(self) -> None:
        """Return None: texts have no seconds."""
        return

    def load(self) -> "ChunkEncoder":
        """Load the sentence encoder."""
        return ChunkEncoder(load_encoder(self.encoder, self.device, self.batch_size))

    def entry(self, item_id: str) -> str:
        """Return the set that a chunk belongs to."""
        return self.sets[int(item_id.partition("-")[0])]


class ChunkEncoder:
    """Encodes chunks of equal size with one `SentenceEncoder.stream`, so that processes for several GPUs start once.

    Args:
        encoder: the sentence encoder.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        self.name, self.dim = encoder.name, int(encoder.dim)

    def encode(self, items: Sequence[Item], begin: Callable[[Item], None]) -> Iterator[EncodedItem]:
        """Yield the embeddings of each chunk."""
        chunks = [item for item in items if isinstance(item, TextChunk)]
        while chunks:
            size = len(chunks[0].texts)
            # All chunks of a stream have the same size, except that the last one may be smaller.
            full = next((i for i, chunk in enumerate(chunks) if len(chunk.texts) != size), len(chunks))
            together = full + 1 if full < len(chunks) and len(chunks[full].texts) < size else full
            texts = _Concatenated([chunk.texts for chunk in chunks[:together]])
            stream = self.encoder.stream(texts, chunk=size, progress=False)
            finished = 0
            for chunk in chunks[:together]:
                rows = _NextChunk(stream)
                yield EncodedItem(chunk, rows)
                finished += 1
                if not rows.complete:  # a stream ends at its first error
                    break
            chunks = chunks[finished:]


class _NextChunk:
    """The next rows of a stream, computed while iterating."""

    def __init__(self, stream: Iterator[tuple[int, Float32[np.ndarray, "texts dim"]]]) -> None:
        self._stream = stream
        self.complete = False

    def __iter__(self) -> Iterator[Float32[np.ndarray, "texts dim"]]:
        yield next(self._stream)[1]
        self.complete = True


class _Concatenated(Sequence[str]):
    """Concatenation of several sequences of texts, without a copy."""

    def __init__(self, parts: Sequence[Sequence[str]]) -> None:
        self._parts = parts
        self._first = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._first, index, side="right")) - 1
        return self._parts[part][int(index - self._first[part])]


class TextBank:
    """Bank of text embeddings by one sentence encoder: float32, no clock, row i of a set embeds its text i.

    Args:
        folder: folder of the bank.
        stem: the file name is `<stem>.<encoder>.h5`.
        sets: texts by name of the set; each set is one "video" of the bank.
        encoder: name or path of a sentence encoder.
        digest: digest of the texts in order, stored as the bank's `source` to detect a bank of other texts.
    """

    def __init__(
        self, folder: str | Path, stem: str, sets: Mapping[str, Sequence[str]], encoder: str, digest: str
    ) -> None:
        self.path = text_bank_path(folder, stem, encoder)
        self.stem = stem
        self.sets = dict(sets)
        self.encoder = encoder
        self.name = sentence_model_name(encoder)
        self.digest = digest

    def is_current(self) -> bool:
        """Whether the bank exists, is intact, and holds these texts."""
        if not self.path.exists():
            return False
        try:
            bank = FeatureBank.open(self.path)
        except InputError:
            return False
        return bank.source == self.digest and list(bank.videos) == list(self.sets) and bank.n_rows == self.n_texts

    @cached_property
    def n_texts(self) -> int:
        """Count of the texts of all sets."""
        return sum(map(len, self.sets.values()))

    def texts_left(self) -> int:
        """Return the count of texts still to be encoded: none, all, or those that an interrupted run left."""
        if self.is_current():
            return 0
        engine = self._engine(SentenceRows(self.encoder, tuple(self.sets)))
        _, missing = self._chunks(self._finished(engine), CHUNK)
        return sum(chunk.cost for chunk in missing)

    def write(
        self,
        batch_size: int = 256,
        device: Device = None,
        chunk: int = CHUNK,
        overwrite: bool = False,
        compute: Any = None,
    ) -> dict[str, Any]:
        """Encode the missing texts and write the bank; return its coverage.

        Args:
            batch_size: texts per batch.
            device: device of the encoder; None: all GPUs, or the CPU without GPUs.
            chunk: texts per chunk; a kill loses at most one chunk.
            overwrite: write the bank again even if it is up to date.
            compute: a `clep.compute.Local` or `Slurm`, or the config of one. None: this process.

        Raises:
            InputError: the encoder is not found, `chunk` is not positive, a chunk failed or is not visible here,
                or the disk is full.
        """
        if chunk < 1:
            raise InputError(f"chunk={chunk} must be at least 1 text")
        coverage = Coverage(self.stem, self.path, self.digest, {"encoder": self.name})
        if overwrite or not self.is_current() or shards_folder(self.path).exists():  # left by a killed run
            source = SentenceRows(self.encoder, tuple(self.sets), device, batch_size)
            self._encode(source, chunk, compute, coverage, overwrite)
        else:
            logger.info("%s is up to date", self.path)
            last = coverage.last_run(FeatureBank.open)
            if last is not None:
                return last | {"up_to_date": True}
        bank = FeatureBank.open(self.path)
        coverage.count(texts=bank.n_rows, sets=len(bank), dim=bank.dim, encoder=bank.encoder)
        return coverage.write() | {"up_to_date": False}

    def _encode(self, source: SentenceRows, chunk: int, compute: Any, coverage: Coverage, overwrite: bool) -> None:
        runner = build_typed(compute) if isinstance(compute, Mapping) else compute
        engine = self._engine(source)
        with engine.lock():
            known, missing = self._chunks(self._finished(engine), chunk)
            if self.is_current() and not overwrite:  # another process wrote it, or a run that was killed after that
                if known and not missing:
                    engine.write_ledger({name: one.entry for name, one in known.items()})
                engine.remove_shards()
                return
            coverage.count(encoded_before=sum(one.entry.rows for one in known.values()))
            # Each worker loads the encoder, so it gets several chunks; the calling process gets all.
            per_shard = min(_MAX_CHUNKS_PER_SHARD, -(-len(missing) // _FEWEST_SHARDS)) or 1
            n_shards = 1 if runner is None else -(-len(missing) // per_shard)
            lost = engine.encode(missing, runner or Local(processes=1), n_shards)
            found = lost | self._finished(engine)
            known, left = self._chunks(found, chunk)
            if left:
                reasons = [found[item.id].entry.reason for item in left if item.id in found] or [NOT_VISIBLE]
                raise InputError(
                    f"{self.path} was not written: {len(left)} of {len(left) + len(known)} chunks are missing. "
                    f"The others are kept; run the same command again to continue. First reason: {reasons[0]}"
                )
            coverage.forget_last_run()
            engine.join(known, attribute=self.digest)

    def _engine(self, source: SentenceRows) -> Engine:
        return Engine(self.path, source, self.stem, ShardSize(cost=CHUNK, save_every=1))

    def _finished(self, engine: Engine) -> dict[str, Finished]:
        return engine.finished(self._fingerprint, joined=False)

    def _fingerprint(self, item_id: str) -> str | None:
        number, start, stop = (int(part) for part in item_id.split("-"))
        if number >= len(self.sets) or stop > len(list(self.sets.values())[number]):
            return None
        return _digest(_between(list(self.sets.values())[number], start, stop))

    def _chunks(self, found: Mapping[str, Finished], size: int) -> tuple[dict[str, Finished], list[TextChunk]]:
        """Return the encoded chunks, which may have other sizes, and new chunks of the texts between them."""
        known: dict[str, Finished] = {}
        missing: list[TextChunk] = []
        done = sorted(name for name, one in found.items() if one.bank is not None)
        done = [name for name in done if found[name].entry.fingerprint == self._fingerprint(name)]
        for number, texts in enumerate(self.sets.values()):
            position = 0
            for name in done:
                of_set, start, stop = (int(part) for part in name.split("-"))
                if of_set == number and start >= position:
                    missing += _cut(number, texts, position, start, size)
                    known[name] = found[name]
                    position = stop
            missing += _cut(number, texts, position, len(texts), size)
        return known, missing


def _cut(number: int, texts: Sequence[str], first: int, last: int, size: int) -> list[TextChunk]:
    chunks = []
    for start in range(first, last, size):
        stop = min(start + size, last)
        part = _between(texts, start, stop)
        chunks.append(TextChunk(f"{number:03d}-{start:010d}-{stop:010d}", part, _digest(part)))
    return chunks


def _between(texts: Sequence[str], start: int, stop: int) -> Sequence[str]:
    """Return consecutive texts; a slice of `Texts` shares its bytes."""
    return Texts(texts.blob, texts.offsets[start : stop + 1]) if isinstance(texts, Texts) else texts[start:stop]


def _own_bytes(texts: Sequence[str]) -> Sequence[str]:
    """Copy the bytes of a slice of `Texts`, so that it can be pickled without the others."""
    if not isinstance(texts, Texts):
        return texts
    first, last = int(texts.offsets[0]), int(texts.offsets[-1])
    return Texts(np.array(texts.blob[first:last]), texts.offsets - first)


def _digest(texts: Sequence[str]) -> str:
    own = _own_bytes(texts if isinstance(texts, Texts) else Texts.of(texts))
    assert isinstance(own, Texts)
    return own.digest()[:32]
