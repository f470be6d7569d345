"""Two gloo ranks that encode by chunks end with the parameters of one process."""

from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing, nn

from clep.losses import ClipLoss, across_ranks
from clep.models import DualEncoder
from clep.training.contrastive import encode_in_chunks

FORMS = ("global", "local")


class Both(nn.Module):
    """Both towers by chunks, as one call that DDP can follow."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        video = {"_target_": "clep.models.TemporalTower", "in_dim": 6, "out_dim": 5, "dim": 8, "heads": 2}
        text = {"_target_": "clep.models.ProjectionHead", "in_dim": 4, "out_dim": 5, "hidden_dim": 16}
        self.model = DualEncoder.from_config({"video": video, "text": text})

    def forward(self, given: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        towers = (self.model.encode_video, self.model.encode_text)
        video, text = (encode_in_chunks(encode, given, 4) for encode in towers)
        return video, text, self.model.logit_scale


def batch(step: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(step)
    mask = torch.rand(22, 3, generator=random) < 0.7
    rows, text = torch.randn(22, 3, 6, generator=random), torch.randn(22, 4, generator=random)
    return {"video": rows, "video_mask": mask, "text": text, "moment": torch.arange(22)}


def train(form: str, rank: int = 0, ranks: int = 1) -> dict[str, Tensor]:
    both = Both()
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(both) if ranks > 1 else both
    optimizer, loss = torch.optim.SGD(both.parameters(), lr=0.1), across_ranks(ClipLoss(), form)
    for step in range(2):
        optimizer.zero_grad()
        video, text, scale = wrapped({key: value.chunk(ranks)[rank] for key, value in batch(step).items()})
        loss(video, text, scale).backward()
        optimizer.step()
    return both.state_dict()


def run_rank(process: int, folder: str, rank: int = 1) -> list[dict[str, Tensor]]:
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", store, timedelta(seconds=120), rank=rank, world_size=2)
    try:
        found = [train(form, rank, 2) for form in FORMS]
    finally:
        distributed.destroy_process_group()
    torch.save(found, f"{folder}/{rank}.pt")
    return found


def test_two_ranks_have_the_parameters_of_one(tmp_path: Path) -> None:
    alone = [train(form) for form in FORMS]
    other = multiprocessing.start_processes(run_rank, (str(tmp_path),), join=False, start_method="forkserver")
    mine = run_rank(0, str(tmp_path), rank=0)
    other.join()
    for found in (mine, torch.load(tmp_path / "1.pt", weights_only=True)):
        for state, expected in zip(found, alone, strict=True):
            for name, value in expected.items():
                torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6)
