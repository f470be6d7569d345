"""A text tower that trains the sentence encoder itself."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from clep.errors import InputError
from clep.models.live_encoder import LiveSentenceEncoder
from clep.models.projection import ProjectionHead
from clep.models.tower import Tower


class SentenceTower(Tower):
    """Project the embedding of a sentence encoder that is fine-tuned; training starts from the frozen encoder's.

    A batch has `text_tokens` `[b, l]` and `text_token_mask` `[b, l]` (`data.tokens`). The transformer's parameters are
    called `encoder.…`, the projection's `head.…`, for learning rates of their own (`optim.optimizer.lr_factors`).

    Args:
        encoder, max_tokens, frozen_layers, checkpointing: see `LiveSentenceEncoder`.
        out_dim: numbers in an embedding.
        hidden_dim, layers, activation, dropout, init: of the projection, see `ProjectionHead`.

    Raises:
        InputError: an option has no meaning; or, when called, a batch without tokens.
    """

    def __init__(
        self,
        encoder: str | dict[str, Any],
        out_dim: int,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: str = "relu",
        dropout: float | int = 0.0,
        init: str = "default",
        max_tokens: int = 64,
        frozen_layers: int = 0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = LiveSentenceEncoder(encoder, max_tokens, frozen_layers, checkpointing)
        self.head = ProjectionHead(
            self.encoder.out_dim, out_dim, hidden_dim, layers, activation, dropout=dropout, init=init
        )
        self.out_dim = out_dim

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed the texts of a batch."""
        if "text_tokens" not in batch or "text_token_mask" not in batch:
            raise InputError(
                "this model's SentenceTower reads tokens, and the batch has none; set data.tokens "
                "(clep.data.TextTokens) as model=live_text does"
            )
        mask = batch["text_token_mask"]
        longest = int(mask.sum(1).max()) if len(mask) else 0  # of a chunk, whose texts may all be short
        return self.head(self.encoder(batch["text_tokens"][:, :longest], mask[:, :longest]))

    def tokenize(self, sentences: Sequence[str]) -> dict[str, Tensor]:
        """Return sentences as the keys of a batch that `forward` reads, on the CPU."""
        return self.encoder.tokenizer.batch(sentences)

    def saved_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config with the encoder's description instead of its name: a saved model fetches nothing."""
        return {**config, "encoder": self.encoder.architecture}
