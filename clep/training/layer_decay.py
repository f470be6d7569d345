"""Learning rates that fall towards the pixels: the first layers of a trained encoder need the smallest steps."""

from collections.abc import Mapping

from torch import nn

from clep.errors import InputError
from clep.video.encoder import VideoEncoder


def layer_factors(
    model: nn.Module, decay: float | int, lr_factors: Mapping[str, float | int] | None = None
) -> dict[str, float]:
    """Return a factor for each stage of the video encoders in a model: `decay` for the last, its square before, …

    After BEiT's fine-tuning (Bao et al. 2021, arXiv 2106.08254, appendix). What follows an encoder keeps the full rate,
    stages that are frozen have none.

    Args:
        model: with a `VideoEncoder` that tells its stages somewhere in it.
        decay: above 0 and at most 1.
        lr_factors: of parts by the start of their parameters' names; a part's factor multiplies those of its stages.

    Raises:
        InputError: `decay` is out of range, or no encoder in the model tells its stages.
    """
    if not 0 < decay <= 1:
        raise InputError(f"optim.optimizer.layer_decay={decay} must lie above 0 and at most at 1")
    factors = {prefix: float(factor) for prefix, factor in (lr_factors or {}).items()}
    found = False
    for place, encoder in model.named_modules():
        if not isinstance(encoder, VideoEncoder) or not encoder.stages():
            continue
        found = True
        trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
        for left, stage in enumerate(reversed(encoder.stages()), start=1):
            for part in stage:
                prefix = f"{place}.{part}" if place else part
                if any(f"{name}.".startswith(f"{part}.") for name in trained):
                    around = [given for given in (lr_factors or {}) if f"{prefix}.".startswith(f"{given}.")]
                    base = float((lr_factors or {})[max(around, key=len)]) if around else 1.0
                    factors.setdefault(prefix, base * float(decay) ** left)
    if not found:
        raise InputError(
            f"optim.optimizer.layer_decay={decay} is for a model with a video encoder that tells its stages, and this "
            f"{type(model).__name__} has none; leave it out"
        )
    # A part whose stages all have a factor of their own has no parameter left for its own one.
    return {prefix: factor for prefix, factor in factors.items() if not _is_covered(model, prefix, factors)}


def _is_covered(model: nn.Module, prefix: str, factors: Mapping[str, float]) -> bool:
    inner = [other for other in factors if other != prefix and other.startswith(f"{prefix}.")]
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    own = [name for name in names if f"{name}.".startswith(f"{prefix}.")]
    return bool(own) and all(any(f"{name}.".startswith(f"{other}.") for other in inner) for name in own)
