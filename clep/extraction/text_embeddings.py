"""Sentences → a bank of their embeddings, in parts that survive an interruption."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from clep.bank import BankWriter, FeatureBank
from clep.config.build import build
from clep.errors import InputError
from clep.extraction.coverage import Coverage
from clep.extraction.text_parts import TextParts, between, encode_as_tasks, save_part
from clep.text import SentenceEncoder
from clep.text.sentence_encoder import sentence_model_name

logger = logging.getLogger(__name__)

Device = str | list[str] | None
CHUNK = 8192


def load_encoder(name: str, device: Device, batch_size: int) -> SentenceEncoder:
    """Load a sentence encoder; a function of its own, so that it happens only when there is something to encode."""
    return SentenceEncoder(name, device=device, batch_size=batch_size)


def text_bank_path(folder: str | Path, stem: str, encoder: str) -> Path:
    """Return where the embeddings of a set of texts lie: `<folder>/<stem>.<encoder>.h5`."""
    return Path(folder) / f"{stem}.{sentence_model_name(encoder)}.h5"


class TextBank:
    """The embeddings of sets of texts by one sentence encoder: float32, no clock, row i of a set is its text i.

    Arguments:
        folder: where the bank goes.
        stem: its name is `<stem>.<encoder>.h5`.
        sets: name → texts; each becomes one "video" of the bank.
        encoder: name or path of a sentence encoder.
        digest: of the texts and their order. The bank keeps it as `source`, which tells whether it belongs to them.
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
        key = blake2b(f"{digest}\0{self.name}".encode(), digest_size=8).hexdigest()
        self._parts = TextParts(self.path.with_name(f".{self.path.stem}.parts"), key)

    def is_current(self) -> bool:
        """Whether the bank is there, whole, and made from these texts."""
        if not self.path.exists():
            return False
        try:
            bank = FeatureBank.open(self.path)
        except InputError:
            return False
        return bank.source == self.digest and list(bank.videos) == list(self.sets) and bank.n_rows == self._n_texts()

    def texts_left(self) -> int:
        """Return how many texts are still to be encoded: none, all, or what an interrupted run left."""
        if self.is_current():
            return 0
        return self._n_texts() - self._encoded()

    def write(
        self,
        batch_size: int = 256,
        device: Device = None,
        chunk: int = CHUNK,
        overwrite: bool = False,
        compute: Any = None,
    ) -> dict[str, Any]:
        """Encode what is not encoded yet and write the bank; return its coverage.

        Parts of `chunk` texts lie in the hidden folder `.<stem>.<encoder>.parts`, which is removed at the end; a second
        run keeps those that are whole.

        Args:
            batch_size: texts that go through the encoder at once.
            device: where the encoder runs; None: all GPUs there are, else the CPU.
            chunk: texts of a part.
            overwrite: make the bank anew even where it is up to date.
            compute: where parts are made: a `clep.compute.Local` or `Slurm`, or the config of one. None: one after
                another in this process.

        Raises:
            InputError: the encoder cannot be found, `chunk` is not positive, a task failed, its rows do not show here,
                or the disk is full.
        """
        if chunk < 1:
            raise InputError(f"chunk={chunk} must be at least 1 text")
        coverage = Coverage(self.stem, self.path, self.digest, {"encoder": self.name})
        if self.is_current() and not overwrite:
            logger.info("%s is up to date", self.path)
            done = coverage.last_run(FeatureBank.open)
            if done is not None:
                return done | {"up_to_date": True}
        else:
            runner = build(compute) if isinstance(compute, Mapping) else compute
            self._parts.forget_others()
            coverage.count(continued_from=self._encoded())
            load = partial(load_encoder, self.encoder, device, batch_size)
            if runner is not None:
                encode_as_tasks(self._parts, list(self.sets.values()), chunk, load, runner)
                dim = self._parts.dim()
            else:
                dim = self._encode(load(), chunk)
            coverage.forget_last_run()
            self._join(dim)
        bank = FeatureBank.open(self.path)
        coverage.count(texts=bank.n_rows, sets=len(bank), dim=bank.dim, encoder=bank.encoder)
        return coverage.write() | {"up_to_date": False}

    def _encode(self, encoder: SentenceEncoder, chunk: int) -> int:
        for number, texts in enumerate(self.sets.values()):
            for start, stop in self._parts.missing(number, len(texts)):
                for offset, rows in encoder.stream(between(texts, start, stop), chunk=chunk):
                    save_part(self._parts.path(number, start + offset), rows)
        return int(encoder.dim)

    def _join(self, dim: int) -> None:
        if any(self._parts.missing(number, len(texts)) for number, texts in enumerate(self.sets.values())):
            raise self._parts.incomplete()  # or later texts would get the rows of earlier ones
        with BankWriter(
            self.path, dim, clock=None, dtype="float32", encoder=self.name, source=self.digest, n_rows=self._n_texts()
        ) as writer:
            for number, name in enumerate(self.sets):
                writer.add(name, (np.load(part.path, allow_pickle=False) for part in self._parts.of_set(number)))
        self._parts.forget()

    def _encoded(self) -> int:
        return sum(part.n_rows for number in range(len(self.sets)) for part in self._parts.of_set(number))

    def _n_texts(self) -> int:
        return sum(map(len, self.sets.values()))
