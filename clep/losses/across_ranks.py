"""Contrastive losses over the joined batch of all ranks, with the gradient of a single process on that batch."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, distributed, nn

from clep.errors import InputError
from clep.losses.clip import check_has_positives
from clep.losses.positives import Positives, PositivesRule
from clep.losses.sigmoid import PositivesOfRows


class AcrossRanks(nn.Module):
    """Contrast each video with the texts of all ranks, and each text with the videos of all ranks; see `across_ranks`.

    Three ranks with batches of two pairs. Rows are videos, columns are texts, both labelled with their rank:

                     global: rank 1 computes            local: rank 1 computes
                       0   0   1   1   2   2              0   0   1   1   2   2
                  0  [ D   o   o   o   o   o ]       0  [         |   |         ]
                  0  [ o   D   o   o   o   o ]       0  [         |   |         ]
                  1  [ o   o   D   o   o   o ]       1  [ --  --  D   +   --  -- ]
                  1  [ o   o   o   D   o   o ]       1  [ --  --  +   D   --  -- ]
                  2  [ o   o   o   o   D   o ]       2  [         |   |         ]
                  2  [ o   o   o   o   o   D ]       2  [         |   |         ]

                     the whole matrix,                -- own videos against all texts
                     equal on every rank               | own texts against all videos
                                                      D  pairs, on the diagonal

    "global" computes total x total logits on each rank; "local" computes 2 x own x total, or own x total for pairwise
    losses, which need only own rows. Both give the same gradient. With R ranks, the loss L of the joined batch, and L_r
    the value on rank r:

    - DDP averages the gradients of parameters over ranks, so the optimised loss is mean_r(L_r). The part of L_q that
      depends on the embeddings of rank r must reach rank r, so the backward pass of the gather *sums* over q.
    - global: L_r = L on each rank, so mean_r(L_r) = L.
    - local: each direction of L is a sum over queries / their number, and each query belongs to one rank. (A pairwise
      loss is one such sum, over videos.) With S_r the sum over own queries and N their number in the joined batch,
      L_r = R * S_r / N, so mean_r(L_r) = L. N is all-reduced, since queries without a positive are not counted, and
      ranks may have different numbers of them.

    The same holds for the gradients of scale and bias. There is no option to treat the embeddings of other ranks as
    constants, since that gives a wrong gradient.

    Examples:
        On one process it is the loss itself:

        >>> import torch
        >>> from clep.losses import ClipLoss, TextIdPositives, across_ranks
        >>> loss = across_ranks(ClipLoss(), positives=TextIdPositives())
        >>> keys = {"text_id": torch.tensor([7, 8])}
        >>> bool(loss(torch.eye(2), torch.eye(2), 5.0, keys) == ClipLoss()(torch.eye(2), torch.eye(2), 5.0))
        True
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
        # A rule without keys is the diagonal; losses then need no matrix.
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
        """Return a value whose mean over ranks is the loss of the joined batch; in the global form all ranks return it.

        Args:
            video: embeddings of this rank's pairs.
            text: embeddings of the texts, text i with video i.
            scale: multiplier of the dot products.
            keys: the keys that `positives` compares, each `[own, ...]`; moved to the embeddings' device. The key
                `position`, each pair's index in the joined batch, is added. Unused for diagonal positives.
            bias: passed to the loss.

        Raises:
            ValueError: ranks have batches of different sizes (the sampler must drop the last, incomplete batch), keys
                are missing, or a key has another length.
        """
        ranks = self._ranks()
        rank = distributed.get_rank(self.group) if ranks > 1 else 0
        if ranks > 1 and self.check_sizes:
            check_same_size(len(video), video.device, self.group)
        keys = self._gather_keys(keys, video, ranks)
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
            check_has_positives(counts)
        return (ranks * sums / counts).mean()

    def _ranks(self) -> int:
        if not (distributed.is_available() and distributed.is_initialized()):
            return 1
        return distributed.get_world_size(self.group)

    def _gather_keys(
        self, keys: dict[str, Tensor] | None, video: Float[Tensor, "own dim"], ranks: int
    ) -> dict[str, Tensor] | None:
        if self.positives is None:
            return None
        if not keys:
            raise ValueError("positives are computed from keys such as text_id; pass keys")
        wrong = {name: len(key) for name, key in keys.items() if len(key) != len(video)}
        if wrong:
            raise ValueError(f"keys must have one entry for each of {len(video)} pairs, got the lengths {wrong}")
        # Sorted, since all ranks must gather their keys in the same order.
        joined = {name: gather(keys[name].detach().to(video.device), self.group, ranks) for name in sorted(keys)}
        joined["position"] = torch.arange(len(video) * ranks, device=video.device)
        return joined

    def _positives(
        self, video_keys: dict[str, Tensor] | None, text_keys: dict[str, Tensor] | None
    ) -> Positives | PositivesOfRows | None:
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
    """Wrap a loss so that it contrasts over the joined batch of all ranks, with exact gradients (see `AcrossRanks`).

    Without `torch.distributed`, or with one rank, nothing is gathered.

    Args:
        loss: called as `loss(video, text, scale, positives, bias)`; "local" also needs a method `share` (see
            `ClipLoss`). A loss with `by_rows = True` is given a function from a slice of rows to their positives.
        form: "global": every rank computes the full loss; "local": only its own rows and columns.
        positives: rule for which texts are positives of which videos; None for the diagonal.
        check_sizes: compare the batch sizes of the ranks in each step. That synchronises a GPU, and can be disabled if
            the sampler guarantees equal batches.
        group: process group, None for the default one.

    Raises:
        InputError: another form, or "local" with a loss without `share`.
    """
    return AcrossRanks(loss, form, positives, check_sizes, group)


def check_objective(loss: nn.Module, form: str, with_bias: bool) -> None:
    """Raise if a loss cannot be computed in this form, or cannot train the model's bias.

    Args:
        loss: an objective.
        form: see `across_ranks`.
        with_bias: whether the model has a `logit_bias`.

    Raises:
        InputError: the reason and the alternative.
    """
    name = type(loss).__name__
    if form not in ("global", "local"):
        raise InputError(
            f"form={form!r}; choose global or local. Both propagate the gradient across ranks: a form that treats the "
            "embeddings of other ranks as constants has a wrong gradient"
        )
    if form == "local" and not hasattr(loss, "share"):
        raise InputError(f"form=local needs the method share(), and {name} has no share(); use form=global")
    if with_bias and not getattr(loss, "uses_bias", True):
        raise InputError(
            f"model.init_bias gives the model a bias, which {name} cannot train: a constant cancels in a softmax. "
            "Use model.init_bias=null, or a pairwise objective (loss=siglip, loss=bce)"
        )


def gather(
    own: Shaped[Tensor, "own *rest"], group: distributed.ProcessGroup | None, ranks: int
) -> Shaped[Tensor, "total *rest"]:
    """Concatenate a tensor of all ranks, without gradient. Its shape must be equal on all ranks."""
    if ranks == 1:
        return own
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(ranks)]
    distributed.all_gather(parts, own.contiguous(), group=group)
    return torch.cat(parts)


def gather_with_gradient(
    own: Shaped[Tensor, "own *rest"], group: distributed.ProcessGroup | None
) -> Shaped[Tensor, "total *rest"]:
    """Concatenate a tensor of all ranks; the backward pass sums the ranks' gradients for each part at its owner."""
    return _Gather.apply(own, group)


class _Gather(torch.autograd.Function):
    # Not torch.distributed.nn.all_gather: it is deprecated in favour of a private function, and its backward for gloo
    # confuses ranks of a process group with global ranks.
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
    """Raise on every rank if batch sizes differ between ranks. Synchronises a GPU.

    Raises:
        ValueError: they differ; the message lists them.
    """
    own = torch.tensor([size], device=device)
    sizes = gather(own, group, distributed.get_world_size(group)).tolist()
    if len(set(sizes)) > 1:
        raise ValueError(
            f"ranks have batches of different sizes, {sizes}; use a sampler that drops the last, incomplete batch"
        )
