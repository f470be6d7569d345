"""A sentence encoder that is trained: a transformer over tokens, with the pooling it was published with."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from clep.errors import InputError
from clep.models.dual_encoder import Tower
from clep.models.pooling import masked_max, masked_mean
from clep.models.projection import ProjectionHead
from clep.text.sentence_parts import ACTIVATIONS, SentenceParts, build_parts, load_parts
from clep.text.tokenizer import SentenceTokenizer


class TrainableSentenceEncoder(nn.Module):
    """Tokens to the sentence embedding that the encoder of that name gives, with gradients.

    Its tokenizer is part of its state, as the bytes of a `tokenizer.json`, so that a saved model needs nothing else.

    Args:
        encoder: name or folder of a sentence encoder (see `clep.text.SentenceEncoder`), whose weights are loaded; or
            the description of one, as saved models have it, for which nothing is fetched.
        max_tokens: longer texts are cut; at most what the encoder takes.
        frozen_layers: the word embeddings and so many of the first layers are not trained; 0 trains all.
        checkpointing: keep only what enters each layer, and compute the rest again for the gradient.

    Raises:
        InputError: the encoder cannot be loaded or taken apart, or an option does not fit it.
    """

    def __init__(
        self,
        encoder: str | dict[str, Any],
        max_tokens: int = 64,
        frozen_layers: int = 0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        parts: SentenceParts = load_parts(encoder) if isinstance(encoder, str) else build_parts(encoder)
        self.architecture = parts.architecture
        if not 0 < max_tokens <= self.architecture["max_tokens"]:
            raise InputError(
                f"max_tokens={max_tokens}: this encoder takes 1 to {self.architecture['max_tokens']} tokens"
            )
        self.max_tokens = max_tokens
        self.transformer: Any = parts.transformer
        self.dense = nn.ModuleList(
            nn.Sequential(layer, ACTIVATIONS[described["activation"]]())
            for layer, described in zip(parts.dense, self.architecture["dense"], strict=True)
        )
        self._tokenizer = self._made(parts.tokenizer) if parts.tokenizer else None
        self._frozen = self._freeze(frozen_layers)
        if checkpointing:
            if not self.transformer.supports_gradient_checkpointing:
                raise InputError(f"checkpointing=true is not for {type(self.transformer).__name__}; leave it out")
            newer = getattr(self.transformer, "activation_checkpointing_enable", None)  # the library's older name below
            (newer or self.transformer.gradient_checkpointing_enable)({"use_reentrant": False})
        self.train()  # what was loaded is in evaluation mode, and the trainer leaves modes as they are

    @property
    def out_dim(self) -> int:
        """Numbers in a sentence embedding."""
        dense = self.architecture["dense"]
        return int(dense[-1]["out_dim"] if dense else self.transformer.config.hidden_size)

    @property
    def tokenizer(self) -> SentenceTokenizer:
        """The tokenizer that came with the weights.

        Raises:
            InputError: the encoder was built from a description, and its state is not loaded yet.
        """
        if self._tokenizer is None:
            raise InputError("a sentence encoder built from a description has no tokenizer until its state is loaded")
        return self._tokenizer

    def forward(
        self, tokens: Int64[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the sentence embeddings, pooled and normalised as the encoder does."""
        hidden = self.transformer(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        pooling = self.architecture["pooling"]
        if pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = masked_mean(hidden, mask) if pooling == "mean" else masked_max(hidden, mask)
        for layer in self.dense:
            pooled = layer(pooled)
        return F.normalize(pooled, dim=-1) if self.architecture["normalize"] else pooled

    def train(self, mode: bool = True) -> "TrainableSentenceEncoder":
        """Switch dropout on or off; what is frozen computes as in evaluation."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def get_extra_state(self) -> Tensor:
        """Return the tokenizer as bytes, uint8; zeros of that number where it is not known yet."""
        if self._tokenizer is None:
            return torch.zeros(self.architecture["tokenizer_bytes"], dtype=torch.uint8)
        return torch.frombuffer(bytearray(self._tokenizer.description.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the tokenizer from its bytes."""
        if state.any():
            self._tokenizer = self._made(bytes(state.cpu().numpy()).decode())

    def _made(self, description: str) -> SentenceTokenizer:
        return SentenceTokenizer(
            description, self.max_tokens, self.architecture["pad"], self.architecture.get("prompt", "")
        )

    def _freeze(self, count: int) -> list[nn.Module]:
        """Switch gradients off for the word embeddings and the first `count` layers, and return them."""
        layers = next((module for module in self.transformer.modules() if isinstance(module, nn.ModuleList)), None)
        if not 0 <= count <= (0 if layers is None else len(layers)):
            raise InputError(f"frozen_layers={count}: this encoder has {0 if layers is None else len(layers)} layers")
        if not count:
            return []
        embeddings = cast(nn.Module, getattr(self.transformer, "embeddings", self.transformer.get_input_embeddings()))
        frozen = [embeddings, *list(layers or [])[:count]]
        for module in frozen:
            module.requires_grad_(False)
        return frozen


class SentenceTower(Tower):
    """Project the embedding of a sentence encoder that is fine-tuned; training starts from the frozen encoder's.

    A batch has `text_tokens` `[b, l]` and `text_token_mask` `[b, l]` (`data.tokens`). The transformer's parameters are
    called `encoder.…`, the projection's `head.…`, for learning rates of their own (`optim.optimizer.lr_factors`).

    Args:
        encoder, max_tokens, frozen_layers, checkpointing: see `TrainableSentenceEncoder`.
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
        self.encoder = TrainableSentenceEncoder(encoder, max_tokens, frozen_layers, checkpointing)
        self.head = ProjectionHead(
            self.encoder.out_dim, out_dim, hidden_dim, layers, activation, dropout=dropout, init=init
        )
        self.out_dim = out_dim

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed the texts of a batch."""
        if "text_tokens" not in batch or "text_token_mask" not in batch:
            raise InputError(
                "this model's SentenceTower reads tokens, and the batch has none; set data.tokens "
                "(clep.data.TextTokens) as model=trainable_text does"
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
