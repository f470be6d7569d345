"""Small inputs in the real formats, and a sentence encoder that computes nothing."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.extraction import text as text_rows
from clep.text import SentenceEncoder
from tests.flushes import recorded_flushes

DIM = 8


class RunsCode:
    """Object of a malicious feature file: unpickling it creates the file that an environment variable names."""

    def __reduce__(self):
        return os.system, ('touch "$CLEP_TEST_CANARY"',)


class FakeEncoder(SentenceEncoder):
    """Embeds a sentence as values of its hash; records the sentences that it encoded."""

    def __init__(self, name: str = "fake", device=None, batch_size: int = 256):
        self.name, self.dim, self.batch_size, self.devices = name, 4, batch_size, ["cpu"]
        self.encoded: list[str] = []
        self.interrupt_after: int | None = None

    def stream(self, texts, chunk=8192, progress=True):
        for offset in range(0, len(texts), chunk):
            if self.interrupt_after is not None and len(self.encoded) >= self.interrupt_after:
                raise KeyboardInterrupt
            part = list(texts[offset : offset + chunk])
            self.encoded += part
            yield offset, np.stack([embed(text) for text in part])


def embed(text: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:4], dtype=np.uint8).astype(np.float32)


@pytest.fixture(autouse=True)
def _flushed(tmp_path) -> Iterator[None]:
    """Every job of every test writes so that a power cut leaves a file whole or absent."""
    with recorded_flushes(tmp_path) as record:
        yield
    assert record.faults == []


@pytest.fixture
def encoder(monkeypatch) -> FakeEncoder:
    """The encoder that every job of the test loads, whatever its name."""
    fake = FakeEncoder()
    monkeypatch.setattr(text_rows, "load_encoder", lambda name, device, batch_size: fake)
    return fake


@pytest.fixture
def canary(tmp_path, monkeypatch) -> Path:
    """A file that exists only if code in a pickle was run."""
    path = tmp_path / "canary"
    monkeypatch.setenv("CLEP_TEST_CANARY", str(path))
    return path


def write_features(folder: Path, rows: dict[str, int], seed: int = 0) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(n, DIM, generator=generator) for name, n in rows.items()}
    for name, tensor in tensors.items():
        torch.save(tensor, folder / f"{name}.pt")
    return tensors


def write_ego4d(folder: Path) -> tuple[Path, Path]:
    """Three videos: one of two passes, one redacted, one of the test split; and one that is in the metadata alone."""

    def narrations(*timed: tuple[float, str]) -> dict:
        entries = [
            {
                "timestamp_sec": second,
                "timestamp_frame": int(second * 30),
                "narration_text": text,
                "annotation_uid": text,
            }
            for second, text in timed
        ]
        return {"narrations": entries, "summaries": []}

    folder.mkdir(parents=True, exist_ok=True)
    videos = {
        "b": {
            "status": "complete",
            "narration_pass_1": narrations((4.0, "#C C opens the fridge"), (1.0, "#C C takes the milk")),
            "narration_pass_2": narrations((4.5, "#C C opens the fridge"), (9.0, "#O A man X closes the door")),
        },
        "a": {"status": "complete", "narration_pass_1": narrations((2.0, "#C C takes the milk"), (3.0, "#C C sits"))},
        "c": {"status": "redacted", "narration_pass_1": narrations((1.0, "#C C pours the milk"))},
    }
    metadata = [
        {"video_uid": uid, "duration_sec": seconds, "split_em": split, "split_fho": None, "split_av": None}
        for uid, seconds, split in (("a", 5.0, "test"), ("b", 10.0, "train"), ("c", 4.0, None), ("d", 7.0, None))
    ]
    narration_json, ego4d_json = folder / "narration.json", folder / "ego4d.json"
    narration_json.write_text(json.dumps(videos))
    ego4d_json.write_text(json.dumps({"videos": metadata}))
    return narration_json, ego4d_json
