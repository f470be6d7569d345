"""What a part of the model is that turns a batch's video, or its text, into an embedding."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Tower(nn.Module):
    """A tower that chooses from the batch itself what it reads, e.g. rows with their mask, or a long-term context.

    Subclass it and define `forward(batch) -> Float[Tensor, "batch embed"]`; `DualEncoder` gives the whole batch to such
    towers. To any other module it gives `video` (a window's mean, where the batch has several rows) or `text`.
    """

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed a batch; not normalised, in any floating dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(batch)")

    def saved_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return what a saved model builds this tower from; it must need no files but the model's own.

        Args:
            config: what the tower was built from, plain values with `_target_`.
        """
        return config
