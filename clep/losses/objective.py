"""Whether an objective can be what a run asks of it, told before anything starts."""

from torch import nn

from clep.errors import InputError


def check_objective(loss: nn.Module, form: str, with_bias: bool) -> None:
    """Refuse a form or a model's bias that the objective cannot use.

    Args:
        loss: an objective.
        form: of the loss across ranks, see `across_ranks`.
        with_bias: whether the model has a `logit_bias`.

    Raises:
        InputError: the reason, and what to choose instead.
    """
    name = type(loss).__name__
    if form not in ("global", "local"):
        raise InputError(
            f"form={form!r}; choose global or local. Both have the gradient across ranks: taking what other ranks send "
            "for constants would follow another gradient than that of the loss"
        )
    if form == "local" and not hasattr(loss, "share"):
        raise InputError(
            f"form=local needs the part of the loss that one rank can compute, and {name} has no share(); "
            "use form=global"
        )
    if with_bias and not getattr(loss, "uses_bias", True):
        raise InputError(
            f"model.init_bias gives the model a bias, which {name} cannot train: a softmax does not see a constant. "
            "Use model.init_bias=null, or an objective of single pairs (loss=siglip, loss=bce)"
        )
