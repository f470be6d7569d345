"""Two gloo ranks, some of whose videos cannot be decoded, end with the parameters of one process."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from clep.data import Augmentation, LabelledVideos
from clep.data.video_clips import RandomClips
from clep.data.video_datamodule import ClipSampler
from clep.models import SavedModel
from clep.training import ClassifierModule
from clep.video import ClipSpec
from tests.colour_films import write_films

BROKEN = (0, 1, 2, 9)
"""Of twelve films in joined batches of six: the whole first share of the first rank, one of the second rank's last."""


class Colours(SavedModel):
    """Classes from the mean colour of a clip."""

    def __init__(self) -> None:
        super().__init__(None)
        torch.manual_seed(3)
        self.linear = nn.Linear(3, 3)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.linear(batch["pixels"].float().mean((1, 3, 4)) / 255)


class Steps(nn.Module):
    """The loss as one call that DDP can follow."""

    def __init__(self) -> None:
        super().__init__()
        loss = nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=0.1)
        self.module = ClassifierModule(Colours(), loss, lambda model: torch.optim.SGD(model.parameters()))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.module.compute_loss(batch)


def train(videos: LabelledVideos, rank: int = 0, ranks: int = 1) -> dict[str, Tensor]:
    steps = Steps()
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(steps) if ranks > 1 else steps
    optimizer = torch.optim.SGD(steps.parameters(), lr=0.5)
    clips = RandomClips(videos, ClipSpec(2, 16, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)), Augmentation())
    for draw in ClipSampler([len(videos)], 6 // ranks, shuffle=False, rank=rank, world_size=ranks):
        optimizer.zero_grad()
        wrapped(clips.__getitems__(draw)).backward()
        optimizer.step()
    return steps.module.model.state_dict()


def run_rank(process: int, folder: str, rank: int = 1) -> dict[str, Tensor]:
    distributed.init_process_group("gloo", f"file://{folder}/store", timedelta(seconds=120), rank=rank, world_size=2)
    try:
        found = train(LabelledVideos.read(f"{folder}/films/train.csv"), rank, 2)
    finally:
        distributed.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")
    return found


def test_two_ranks_have_the_parameters_of_one(tmp_path: Path) -> None:
    videos = LabelledVideos.read(write_films(tmp_path / "films", broken=BROKEN))
    alone = train(videos)
    other = multiprocessing.start_processes(run_rank, (str(tmp_path),), join=False, start_method="forkserver")
    mine = run_rank(0, str(tmp_path), rank=0)
    other.join()
    for found in (mine, torch.load(tmp_path / "1.pt", weights_only=True)):
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", [[-1, 2, 0, -1], [-1, -1, -1, -1]])
def test_the_loss_is_the_mean_over_readable_examples(target: list[int]) -> None:
    steps, random = Steps(), torch.Generator().manual_seed(0)
    batch = {"pixels": torch.randint(256, (4, 2, 3, 8, 8), generator=random), "target": torch.tensor(target)}
    loss, read = steps(batch), batch["target"] >= 0
    loss.backward()
    logits = steps.module.model(batch)[read]
    by_hand = torch.nn.functional.cross_entropy(logits, batch["target"][read], label_smoothing=0.1)
    assert loss.item() == pytest.approx(by_hand.item() if read.any() else 0.0)
    gradient = steps.module.model.linear.weight.grad
    assert gradient is not None
    assert bool(gradient.any()) == bool(read.any())
    assert gradient.isfinite().all()
