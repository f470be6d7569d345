"""Baseline: a loader, a model and a training loop in the style of the published tutorial.

One `.pt` for each narration and one HDF5 dataset for each video are read for every sample, in two workers that hand
single samples' tensors to a collating loader. Where the tutorial breaks, the fast reading of it is taken: the HDF5
file is opened once in each worker and not before they fork, and nothing is evaluated, logged or saved on the way.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from time import perf_counter

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.tutorial_data import OFFSET_S

ROWS_PER_SECOND = 30 / 16


class NarrationFiles(Dataset[dict[str, Tensor]]):
    """One narration an item: its text embedding from its own file, and the mean of the rows within ± 2 s of it."""

    def __init__(self, features: Path, narration_files: Sequence[Path]) -> None:
        self.features, self.files = features, [str(path) for path in narration_files]
        self._opened: h5py.File | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self._opened is None:
            self._opened = h5py.File(self.features, "r")
        narration = torch.load(self.files[index], weights_only=True)
        rows = self._opened[narration["video_uid"]]
        start_s, end_s = narration["second"] - OFFSET_S, narration["second"] + OFFSET_S
        first = min(max(0, math.floor(start_s * ROWS_PER_SECOND)), len(rows) - 1)
        last = min(math.floor(end_s * ROWS_PER_SECOND), len(rows) - 1) + 1
        return {
            "video": torch.from_numpy(rows[first:last].mean(0)),
            "text": narration["embedding"],
            "text_id": torch.tensor(narration["text_id"]),
        }


class PartOfAnEpoch:
    """Batches of a new random part of the narrations at each iteration, as a shuffled loader would draw them."""

    def __init__(self, narrations: int, batch_size: int, batches: int, seed: int = 0) -> None:
        self.narrations, self.batch_size = narrations, batch_size
        self.batches = min(batches, narrations // batch_size)
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        order = self._rng.permutation(self.narrations)[: self.batches * self.batch_size]
        return iter(order.reshape(self.batches, self.batch_size).tolist())


def narration_loader(dataset: NarrationFiles, batch_size: int, batches: int, workers: int) -> DataLoader:
    """Return the tutorial's loader over part of an epoch. Workers stay for all of them, which favours the baseline."""
    part = PartOfAnEpoch(len(dataset), batch_size, batches)
    return DataLoader(dataset, batch_sampler=part, num_workers=workers, persistent_workers=workers > 0)


class TutorialModel(nn.Module):
    """Two towers, Linear–ReLU–Linear, whose outputs are multiplied as they are."""

    def __init__(self, video_dim: int, text_dim: int, width: int) -> None:
        super().__init__()
        self.video = nn.Sequential(nn.Linear(video_dim, width), nn.ReLU(), nn.Linear(width, width))
        self.text = nn.Sequential(nn.Linear(text_dim, width), nn.ReLU(), nn.Linear(width, width))
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, gain=nn.init.calculate_gain("relu"))
                nn.init.zeros_(module.bias)

    def forward(self, video: Tensor, text: Tensor) -> Tensor:
        """Return the loss of a batch."""
        v, t = self.video(video), self.text(text)
        target = torch.arange(len(v), device=v.device)
        forth = nn.functional.cross_entropy(self.scale * v @ t.T, target)
        back = nn.functional.cross_entropy(self.scale * t @ v.T, target)
        return (forth + back) / 2


class TutorialLoop:
    """The plain training loop over a loader, in float32 (or under autocast to `precision`)."""

    def __init__(
        self,
        model: TutorialModel,
        loader: Collection[dict[str, Tensor]] | DataLoader,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self.loader, self.device = loader, torch.device(device)
        self.dtype = getattr(torch, precision)
        self.model = model.to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.98, 0.9), eps=1e-6)

    def examples_per_second(self, warm: int) -> float:
        """Run through the loader once and return the speed after the first `warm` batches."""
        started, examples = perf_counter(), 0
        for number, batch in enumerate(self.loader):
            self.step(batch)
            examples += len(batch["video"])
            if number == warm - 1:
                self.wait()
                started, examples = perf_counter(), 0
        self.wait()
        return examples / (perf_counter() - started)

    def step(self, batch: dict[str, Tensor]) -> None:
        """Take one step."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.model(batch["video"].to(self.device), batch["text"].to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.model.scale.clamp_(0, math.log(100))

    def wait(self) -> None:
        """Wait for the GPU, so that the clock sees all of its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
