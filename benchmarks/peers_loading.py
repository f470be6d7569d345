"""Batches of moments, the mean of the rows of a window and a text embedding, for `benchmarks.peers`.

The same moments as a feature bank, as a WebDataset tar and a LitData folder with one sample a moment (the rows of its
window and its text embedding), and as per-sample reads of the bank's HDF5 file. All of them are shuffled in their own
way, read by as many worker processes as the machine has cores (HDF5: `workers`; clep: none), and warm.
"""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.ego4d_data import data_module, prepare
from clep.data import MomentDataModule

if TYPE_CHECKING:
    from benchmarks.peers import Settings


def sides(settings: "Settings", left_out: dict[str, str]) -> tuple[dict[str, Callable[[], float]], str, dict[str, Any]]:
    """Return what measures each side in examples a second, the unit, and notes."""
    from benchmarks.peers import OURS, optional

    folder = prepare(Path(settings.data), settings.fraction, settings.dim, settings.text_dim)
    module = data_module(folder, "disk", settings.batch_size, 1)
    cores = len(os.sched_getaffinity(0))
    loaders: dict[str, Callable[[], Any]] = {OURS: lambda: module.train_dataloader()}
    samples = _samples(module, min(settings.samples, len(module.parts[0])))
    notes: dict[str, Any] = {"samples": len(samples), "batch": settings.batch_size, "bytes": {}}
    files = HDF5Moments(folder, samples)
    loaders[f"HDF5, {settings.workers} workers"] = lambda: DataLoader(
        files, settings.batch_size, shuffle=True, num_workers=settings.workers, drop_last=True
    )
    if optional("webdataset", left_out) is not None:
        tar = _webdataset(folder / "webdataset.tar", files)
        notes["bytes"]["WebDataset"] = tar.stat().st_size
        loaders["WebDataset"] = lambda: _webdataset_loader(tar, settings.batch_size, 1)  # a tar has one reader
    if optional("litdata", left_out) is not None:
        chunks = _litdata(folder / "litdata", files)
        notes["bytes"]["LitData"] = sum(path.stat().st_size for path in chunks.iterdir())
        loaders["LitData"] = lambda: _litdata_loader(chunks, settings.batch_size, cores)
    epoch = len(samples) // settings.batch_size

    def speed(make: Callable[[], Any]) -> Callable[[], float]:
        def measure() -> float:
            seen, started = 0, 0.0
            for number, batch in enumerate(make()):
                if number == 1:  # workers have started
                    started, seen = perf_counter(), 0
                video = batch["video"] if isinstance(batch, dict) else batch[0]
                assert video.shape[1] == settings.dim
                seen += len(video)
                if number == epoch - 1:
                    break
            return seen / (perf_counter() - started)

        return measure

    return {name: speed(make) for name, make in loaders.items()}, "examples/s", notes


def _samples(module: MomentDataModule, count: int) -> np.ndarray:
    """Return `[count, 3]`: first and last row of the window, and the text, of the first moments in random order."""
    chosen = torch.randperm(len(module.parts[0]), generator=torch.Generator().manual_seed(0))[:count]
    indices = module.parts[0].indices(chosen)
    return torch.stack([indices["first"], indices["last"], indices["text_id"]], dim=1).numpy()


class HDF5Moments(Dataset[dict[str, Tensor]]):
    """A sample at a time from the HDF5 files, opened once in each worker."""

    def __init__(self, folder: Path, samples: np.ndarray) -> None:
        self.paths = folder / "clep" / "ego4d_features.h5", folder / "clep" / "texts.h5"
        self.samples = samples
        self._files: list[h5py.File] = []

    def __len__(self) -> int:
        return len(self.samples)

    def rows(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a window and the text embedding."""
        if not self._files:
            self._files = [h5py.File(path) for path in self.paths]
        first, last, text = self.samples[index]
        return self._files[0]["rows"][first:last], self._files[1]["rows"][text]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rows, text = self.rows(index)
        return {"video": torch.from_numpy(rows.astype(np.float32).mean(0)), "text": torch.from_numpy(text)}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": []}

    def every(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all samples, and close the files, which workers must not share."""
        yield from map(self.rows, range(len(self)))
        for file in self._files:
            file.close()
        self._files = []


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _webdataset(path: Path, files: HDF5Moments) -> Path:
    import webdataset

    with webdataset.TarWriter(str(path)) as tar:
        for number, (rows, text) in enumerate(files.every()):
            tar.write({"__key__": f"{number:07d}", "rows.npy": _npy(rows), "text.npy": _npy(text)})
    return path


def _webdataset_loader(tar: Path, batch_size: int, workers: int) -> Any:
    import webdataset

    def batch(samples: list[Any]) -> dict[str, Tensor]:
        return {
            "video": torch.stack([torch.from_numpy(rows.astype(np.float32).mean(0)) for rows, _ in samples]),
            "text": torch.stack([torch.from_numpy(text) for _, text in samples]),
        }

    dataset = webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False).shuffle(1000).decode()
    dataset = dataset.to_tuple("rows.npy", "text.npy").batched(batch_size, collation_fn=batch, partial=False)
    return DataLoader(dataset, batch_size=None, num_workers=workers)


def _litdata(folder: Path, files: HDF5Moments) -> Path:
    from litdata.streaming.writer import BinaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for number, (rows, text) in enumerate(files.every()):
        writer.add_item(number, {"rows": rows, "text": text})
    writer.done()
    writer.merge()
    return folder


def _litdata_loader(folder: Path, batch_size: int, workers: int) -> Any:
    from litdata import StreamingDataLoader, StreamingDataset

    def batch(samples: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
        video = [torch.from_numpy(sample["rows"].astype(np.float32).mean(0)) for sample in samples]
        return {"video": torch.stack(video), "text": torch.stack([torch.from_numpy(one["text"]) for one in samples])}

    dataset = StreamingDataset(str(folder), shuffle=True, drop_last=True)
    return StreamingDataLoader(dataset, batch_size=batch_size, num_workers=workers, collate_fn=batch)
