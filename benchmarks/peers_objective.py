"""The loss of a step, and the search for hard negatives, for `benchmarks.peers`.

All sides run with the float32 products of a training (`fast_float32_products`), where PyTorch computes them.
"""

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clep.compute.float32_matmul import fast_float32_products
from clep.data.hard_negatives import nearest_videos
from clep.losses import ClipLoss

if TYPE_CHECKING:
    from benchmarks.peers import Settings

Sides = tuple[dict[str, Callable[[], float]], str, dict[str, Any]]


def loss_sides(settings: "Settings", left_out: dict[str, str]) -> Sides:
    """Return what measures a forward and backward pass of the CLIP loss on pairs, in passes a second."""
    from benchmarks.peers import OURS, optional

    torch.manual_seed(0)
    video, text = (
        normalize(torch.randn(settings.loss_batch, settings.loss_dim), dim=1).requires_grad_() for _ in range(2)
    )
    scale = torch.tensor(14.0, requires_grad=True)
    mine = ClipLoss()
    losses: dict[str, Callable[[], Tensor]] = {OURS: lambda: mine(video, text, scale)}
    if optional("open_clip", left_out) is not None:
        from open_clip.loss import ClipLoss as OpenClipLoss

        theirs = OpenClipLoss()
        losses["open_clip"] = lambda: theirs(video, text, scale)
        torch.testing.assert_close(losses[OURS](), losses["open_clip"]())

    def speed(loss: Callable[[], Tensor]) -> Callable[[], float]:
        def measure() -> float:
            with fast_float32_products():
                started = perf_counter()
                for _ in range(5):
                    torch.autograd.grad(loss(), [video, text, scale])
                return 5 / (perf_counter() - started)

        return measure

    notes = {"batch": settings.loss_batch, "dim": settings.loss_dim}
    return {name: speed(loss) for name, loss in losses.items()}, "passes/s", notes


def neighbour_sides(settings: "Settings", left_out: dict[str, str]) -> Sides:
    """Return what measures the search for the nearest videos of all videos, in videos a second."""
    from benchmarks.peers import OURS, optional

    torch.manual_seed(0)
    centres = torch.randn(settings.videos // 20 + 1, settings.loss_dim)
    rows = centres[torch.randint(len(centres), (settings.videos,))] + torch.randn(settings.videos, settings.loss_dim)
    embeddings = normalize(rows, dim=1)
    group = torch.zeros(settings.videos, dtype=torch.int64)

    def ours() -> Tensor:
        chunks = nearest_videos(embeddings, group, settings.neighbours, range(settings.videos))
        return torch.cat([found for _, found in chunks])

    searches: dict[str, Callable[[], Tensor]] = {OURS: ours}
    faiss = optional("faiss", left_out)
    notes: dict[str, Any] = {"videos": settings.videos, "neighbours": settings.neighbours, "dim": settings.loss_dim}
    if faiss is not None:

        def exact() -> Tensor:
            index = faiss.IndexFlatIP(settings.loss_dim)
            index.add(embeddings.numpy())
            return torch.from_numpy(index.search(embeddings.numpy(), settings.neighbours)[1])

        searches["faiss, exact"] = exact
        mine, theirs = ours(), exact()
        notes["same_neighbours"] = float((mine[:, :, None] == theirs[:, None]).any(2).float().mean())

    def speed(search: Callable[[], Tensor]) -> Callable[[], float]:
        def measure() -> float:
            with fast_float32_products():
                started = perf_counter()
                search()
                return settings.videos / (perf_counter() - started)

        return measure

    return {name: speed(search) for name, search in searches.items()}, "videos/s", notes
