"""Small banks for these tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank, build_lmdb
from clep.bank.format import BLOCK_DIGEST, HEADER_BYTES

DIM = 6


def random_videos(count: int = 7, seed: int = 0, dim: int = DIM) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        f"v{seed}_{i}": rng.standard_normal((int(rng.integers(1, 40)), dim)).astype(np.float16) for i in range(count)
    }


def write(path: Path, videos: dict[str, np.ndarray], clock: Clock | None = None, **options: Any) -> Path:
    dim = next(iter(videos.values())).shape[1]
    with BankWriter(path, dim, clock or Clock(), **options) as writer:
        for uid, rows in videos.items():
            writer.add(uid, rows)
    return path


def write_per_video(path: Path, videos: dict[str, np.ndarray], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for uid, rows in videos.items():
            file.create_dataset(uid, data=rows, **options)
    return path


def opened(path: Path, device: str, clock: Clock | None = None) -> FeatureBank:
    """Open a bank on a device; for "lmdb" the LMDB is built first."""
    if device == "lmdb":
        pytest.importorskip("lmdb")
        build_lmdb(path, clock=clock)
    return FeatureBank.open(path, device, clock=clock)


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    """Open a bank file for manual changes; it loses its checksums and becomes a file of version 1."""
    with h5py.File(path, "r+") as file:
        if BLOCK_DIGEST in file:
            del file[BLOCK_DIGEST], file.attrs["block_rows"]
        file.attrs["version"] = 1
        yield file
    with path.open("r+b") as raw:
        raw.write(bytes(HEADER_BYTES))


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Let this machine seem to have a GPU with so many free bytes; creating a tensor there runs out of memory."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (free, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu: 0)
    empty = torch.empty

    def full(*shape: object, device: object = "cpu", **options: object) -> torch.Tensor:
        if torch.device(device).type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return empty(*shape, device=device, **options)

    monkeypatch.setattr(torch, "empty", full)
