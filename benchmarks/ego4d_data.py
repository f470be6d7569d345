"""The synthetic Ego4D with narrations and text embeddings, ready to train on, without a sentence encoder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xxhash
from jaxtyping import Float32

from clep.bank import BankWriter
from clep.data import MomentDataModule, MomentDataset, NarrationSource, Window
from clep.datasets.ego4d import read_ego4d
from clep.demo import SyntheticEgo4D
from clep.text import Narrations, SentenceEncoder

STAND_IN = "hash-of-the-text"
_TABLE_ROWS = 1 << 14


class StandInEncoder(SentenceEncoder):
    """Stands in for a sentence encoder: a unit vector that only the hash of the text decides about.

    Four rows of a random table are added, chosen by 14 bits of the hash each, so that equal texts have equal and other
    texts nearly orthogonal vectors. It takes microseconds a text.
    """

    def __init__(self, dim: int, name: str = STAND_IN) -> None:
        self.dim, self.name = dim, name
        self._table = np.random.default_rng(0).standard_normal((_TABLE_ROWS, dim), dtype=np.float32)

    def encode(self, texts: Sequence[str], progress: bool = False) -> Float32[np.ndarray, "texts dim"]:
        """Return the vectors of texts."""
        digests = np.array([xxhash.xxh3_64_intdigest(text.encode()) for text in texts], dtype=np.uint64)
        rows = np.zeros((len(digests), self.dim), dtype=np.float32)
        for shift in (0, 14, 28, 42):
            rows += self._table[(digests >> np.uint64(shift)).astype(np.int64) & (_TABLE_ROWS - 1)]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def stream(
        self, texts: Sequence[str], chunk: int, progress: bool = True
    ) -> Iterator[tuple[int, Float32[np.ndarray, "texts dim"]]]:
        """Yield the first index and the vectors of each chunk of texts."""
        for first in range(0, len(texts), chunk):
            yield first, self.encode(texts[first : first + chunk])


def prepare(folder: Path, fraction: float, dim: int, text_dim: int) -> Path:
    """Write the synthetic Ego4D, its narrations and text embeddings below a folder, unless they are there."""
    folder = folder / f"ego4d-{fraction:g}-{dim}-{text_dim}"
    SyntheticEgo4D(fraction=fraction, dim=dim).make(folder)
    narrations, texts = folder / "clep" / "narrations.arrow", folder / "clep" / "texts.h5"
    if not narrations.exists():
        read_ego4d(folder / "ego4d" / "narration.json", folder / "ego4d" / "ego4d.json").write(narrations)
    if not texts.exists():
        table, encoder = Narrations.open(narrations), StandInEncoder(text_dim)
        with BankWriter(texts, text_dim, None, "float32", STAND_IN, table.digest, n_rows=len(table.texts)) as writer:
            writer.add("texts", (rows for _, rows in encoder.stream(table.texts, 8192)))
    return folder


def data_module(
    folder: Path, device: str, batch_size: int, batches: int, workers: int = 0, align: str = "start"
) -> MomentDataModule:
    """Return a data module, set up, whose epoch has at least `batches` batches: the moments are repeated for it."""
    source = NarrationSource(
        str(folder / "clep" / "narrations.arrow"),
        str(folder / "clep" / "texts.h5"),
        str(folder / "clep" / "ego4d_features.h5"),
        val_fraction=0.0,
    )
    text_device = device if device.startswith("cuda") else "disk"
    window = Window(align="start" if align == "start" else "centre")
    module = MomentDataModule({"made": source}, window, batch_size, device, text_device, num_workers=workers)
    module.setup("fit")
    once = module.parts[0]
    copies = -(-(batches + 1) * batch_size // len(once))
    if copies > 1:
        moments = once.moments.select(np.tile(np.arange(len(once)), copies))
        module.train_set = MomentDataset(moments, once.bank, once.texts, once.window)
    return module
