"""Any contrastive loss over the joined batch of all ranks, with the gradient of one process that holds it all."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, distributed, nn

from clep.losses.clip import check_some
from clep.losses.objective import check_objective
from clep.losses.positives import Positives, PositivesRule
from clep.losses.sigmoid import RowsOfPositives


def gather(
    own: Shaped[Tensor, "own *rest"], group: distributed.ProcessGroup | None, ranks: int
) -> Shaped[Tensor, "total *rest"]:
    """Join a tensor of every rank, as constants. The shape must be the same on all ranks."""
    if ranks == 1:
        return own
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(ranks)]
    distributed.all_gather(parts, own.contiguous(), group=group)
    return torch.cat(parts)


def gather_with_gradient(
    own: Shaped[Tensor, "own *rest"], group: distributed.ProcessGroup | None
) -> Shaped[Tensor, "total *rest"]:
    """Join a tensor of every rank; gradients that any rank computes for a part go to the rank that owns it, summed."""
    return _Gather.apply(own, group)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
        ctx.group = group
        ctx.size = len(own)
        return gather(own, group, distributed.get_world_size(group))

    @staticmethod
    def backward(ctx: Any, joined: Tensor) -> tuple[Tensor, None]:
        parts = [part.contiguous() for part in joined.split(ctx.size)]
        own = torch.empty_like(parts[0])
        distributed.reduce_scatter(own, parts, op=distributed.ReduceOp.SUM, group=ctx.group)
        return own, None


def check_same_size(size: int, device: torch.device, group: distributed.ProcessGroup | None) -> None:
    """Refuse batches whose sizes differ between ranks, on every rank alike. Waits for a GPU.

    Raises:
        ValueError: the sizes differ; the message lists them.
    """
    own = torch.tensor([size], device=device)
    sizes = gather(own, group, distributed.get_world_size(group)).tolist()
    if len(set(sizes)) > 1:
        raise ValueError(
            f"ranks have batches of different sizes, {sizes}; use a sampler that drops the last, incomplete batch"
        )


class AcrossRanks(nn.Module):
    """Contrast each video with the texts of all ranks, and each text with all videos; made by `across_ranks`.

    Three ranks with batches of two pairs; a line is a video, a column a text, each belongs to the rank beside it:

                     global: rank 1 computes            local: rank 1 computes
                       0   0   1   1   2   2              0   0   1   1   2   2
                  0  [ D   o   o   o   o   o ]       0  [         |   |         ]
                  0  [ o   D   o   o   o   o ]       0  [         |   |         ]
                  1  [ o   o   D   o   o   o ]       1  [ --  --  D   +   --  -- ]
                  1  [ o   o   o   D   o   o ]       1  [ --  --  +   D   --  -- ]
                  2  [ o   o   o   o   D   o ]       2  [         |   |         ]
                  2  [ o   o   o   o   o   D ]       2  [         |   |         ]

                     every rank the same              -- own videos find their texts
                     matrix, the whole loss            | own texts find their videos
                                                      D  pairs, on the diagonal

    "global" costs total x total logits on each rank, "local" 2 x own x total, or own x total for losses of single
    pairs, to which own rows suffice. Both give the same gradient. It is right by this arithmetic, with R ranks, the
    loss L of the joined batch, and L_r what rank r returns:

    - DDP averages parameters' gradients over ranks, so what is descended is mean_r(L_r), where the part of L_q that
      goes through the embeddings of rank r must reach rank r: the gather's backward *sums* over q.
    - global: L_r = L on each rank, so mean_r(L_r) = L.
    - local: each direction of L is a sum over items / their number, and each item is one rank's own. (A loss of pairs
      is one such sum, over videos.) With S_r the sum over own items and N the number in the joined batch,
      L_r = R * S_r / N, so mean_r(L_r) = L. N is what is all-reduced, since items without a positive do not count and
      may be spread unevenly.

    Parameters that enter the loss beside the embeddings, scale and bias, obey the same arithmetic. The forms that are
    wrong (embeddings of other ranks as constants) cannot be asked for.
    """

    def __init__(
        self,
        loss: nn.Module,
        form: str = "global",
        positives: PositivesRule | None = None,
        check_sizes: bool = True,
        group: distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        check_objective(loss, form, with_bias=False)
        self.loss: Any = loss
        self.form = form
        # Without a key there is nothing but the diagonal, for which losses need no matrix.
        self.positives = positives if positives is not None and positives.keys else None
        self.check_sizes = check_sizes
        self.group = group

    def forward(
        self,
        video: Float[Tensor, "own dim"],
        text: Float[Tensor, "own dim"],
        scale: Float[Tensor, ""] | float | int,
        keys: dict[str, Tensor] | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the loss, whose mean over ranks is the loss of the joined batch (in the global form, each is).

        Args:
            video: embeddings of this rank's pairs.
            text: embeddings of the texts, text i with video i.
            scale: multiplier of the dot products.
            keys: what `positives` compare, each `[own, ...]`; moved to the embeddings' device. The key `position`,
                each pair's place in the joined batch, is added. Unused where that is the diagonal.
            bias: passed to the loss.

        Raises:
            ValueError: ranks have batches of different sizes (the sampler must drop the last, incomplete one),
                keys are missing, or a key is of another length.
        """
        ranks = self._ranks()
        rank = distributed.get_rank(self.group) if ranks > 1 else 0
        if ranks > 1 and self.check_sizes:
            check_same_size(len(video), video.device, self.group)
        keys = self._joined_keys(keys, video, ranks)
        if ranks > 1:
            video = gather_with_gradient(video, self.group)
            text = gather_with_gradient(text, self.group)
        if ranks == 1 or self.form == "global":
            return self.loss(video, text, scale, self._positives(keys, keys), bias)
        size = len(video) // ranks
        own = slice(rank * size, (rank + 1) * size)
        own_keys = None if keys is None else {name: key[own] for name, key in keys.items()}
        rows, columns = self._positives(own_keys, keys), self._positives(keys, own_keys)
        sums, counts = self.loss.share(video, text, own, scale, rows, columns, bias)
        if rows is None:
            counts = counts * ranks
        else:
            distributed.all_reduce(counts, group=self.group)
            check_some(counts)
        return (ranks * sums / counts).mean()

    def _ranks(self) -> int:
        if not (distributed.is_available() and distributed.is_initialized()):
            return 1
        return distributed.get_world_size(self.group)

    def _joined_keys(
        self, keys: dict[str, Tensor] | None, video: Float[Tensor, "own dim"], ranks: int
    ) -> dict[str, Tensor] | None:
        if self.positives is None:
            return None
        if not keys:
            raise ValueError("positives are computed from keys (e.g. text_id), and none were given")
        wrong = {name: len(key) for name, key in keys.items() if len(key) != len(video)}
        if wrong:
            raise ValueError(f"keys must have one entry for each of {len(video)} pairs, but lengths are {wrong}")
        # Sorted, so that every rank sends its keys in one order.
        joined = {name: gather(keys[name].detach().to(video.device), self.group, ranks) for name in sorted(keys)}
        joined["position"] = torch.arange(len(video) * ranks, device=video.device)
        return joined

    def _positives(
        self, video_keys: dict[str, Tensor] | None, text_keys: dict[str, Tensor] | None
    ) -> Positives | RowsOfPositives | None:
        rule = self.positives
        if rule is None or video_keys is None or text_keys is None:
            return None
        if not getattr(self.loss, "by_rows", False):
            return rule(video_keys, text_keys)
        return lambda rows: rule({name: key[rows] for name, key in video_keys.items()}, text_keys)


def across_ranks(
    loss: nn.Module,
    form: str = "global",
    positives: PositivesRule | None = None,
    check_sizes: bool = True,
    group: distributed.ProcessGroup | None = None,
) -> AcrossRanks:
    """Make a loss contrast over the joined batch of all ranks, with exact gradients (see `AcrossRanks`).

    Without `torch.distributed`, or with one rank, the result is called the same way and gathers nothing.

    Args:
        loss: called as `loss(video, text, scale, positives, bias)`; for "local" it also has `share` (see `ClipLoss`).
            One with `by_rows = True` is given a function from some rows to their positives.
        form: "global", every rank computes the whole loss; "local", its own rows and columns of it.
        positives: which texts are right for which videos, e.g. `TextIdPositives()`; None for the diagonal.
        check_sizes: compare the ranks' batch sizes in each step. On a GPU that waits for the device; where
            the sampler guarantees equal batches it can be switched off.
        group: process group, None for the default one.

    Raises:
        InputError: another form, or "local" with a loss that has no `share`.
    """
    return AcrossRanks(loss, form, positives, check_sizes, group)
