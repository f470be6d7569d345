"""Fine-tuned sentence encoder: a transformer over tokens with the pooling of the published encoder."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from clep.config.requirements import Need
from clep.errors import InputError
from clep.models.dual_encoder import Tower
from clep.models.pooling import masked_max, masked_mean
from clep.models.projection import ActivationName, InitName, ProjectionHead
from clep.text.sentence_parts import ACTIVATIONS, SentenceParts, build_parts, load_parts
from clep.text.tokenizer import SentenceTokenizer


class TrainableSentenceEncoder(nn.Module):
    """Trainable version of a sentence encoder; its initial embeddings equal those of the encoder.

    The tokenizer is part of the state, as the bytes of a `tokenizer.json`, so a saved model needs no other files.

    Args:
        encoder: name or folder of a sentence encoder (see `clep.text.SentenceEncoder`), whose weights are loaded; or
            its architecture as a dict, as stored in saved models, for which nothing is downloaded.
        max_tokens: longer texts are truncated; at most the encoder's limit.
        frozen_layers: number of first layers that are not trained, with the word embeddings; 0 trains everything.
        checkpointing: activation checkpointing of the layers: less memory, a second forward pass.

    Raises:
        InputError: the encoder cannot be loaded, has an unsupported structure, or an option does not fit it.

    Examples:
        >>> import torch
        >>> from clep.models import TrainableSentenceEncoder
        >>> encoder = TrainableSentenceEncoder("all-tiny-v1", max_tokens=20)
        >>> encoder.out_dim, sum(parameter.requires_grad for parameter in encoder.parameters()) > 0
        (8, True)
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
            raise InputError(f"max_tokens={max_tokens} must be 1 to {self.architecture['max_tokens']} for this encoder")
        self.max_tokens = max_tokens
        self.transformer: Any = parts.transformer
        self.dense = nn.ModuleList(
            nn.Sequential(layer, ACTIVATIONS[described["activation"]]())
            for layer, described in zip(parts.dense, self.architecture["dense"], strict=True)
        )
        self._tokenizer = self._build_tokenizer(parts.tokenizer) if parts.tokenizer else None
        self._frozen = self._freeze(frozen_layers)
        if checkpointing:
            if not self.transformer.supports_gradient_checkpointing:
                raise InputError(
                    f"checkpointing=true is not supported by {type(self.transformer).__name__}; use checkpointing=false"
                )
            newer = getattr(self.transformer, "activation_checkpointing_enable", None)  # older releases: name below
            (newer or self.transformer.gradient_checkpointing_enable)({"use_reentrant": False})
        self.train()  # loaded modules are in evaluation mode, and the trainer does not change modes

    @property
    def out_dim(self) -> int:
        """Dimension of a sentence embedding."""
        dense = self.architecture["dense"]
        return int(dense[-1]["out_dim"] if dense else self.transformer.config.hidden_size)

    @property
    def tokenizer(self) -> SentenceTokenizer:
        """The tokenizer of the encoder.

        Raises:
            InputError: the encoder was built from an architecture, and its state is not loaded yet.
        """
        if self._tokenizer is None:
            raise InputError(
                "a sentence encoder built from its architecture has no tokenizer yet; load its weights first"
            )
        return self._tokenizer

    def forward(
        self, tokens: Int64[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the sentence embeddings, pooled and normalised as in the published encoder."""
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
        """Set the mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def get_extra_state(self) -> Tensor:
        """Return the tokenizer as uint8 bytes; zeros if it is not loaded yet."""
        if self._tokenizer is None:
            return torch.zeros(self.architecture["tokenizer_bytes"], dtype=torch.uint8)
        return torch.frombuffer(bytearray(self._tokenizer.description.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Load the tokenizer from its bytes."""
        if state.any():
            self._tokenizer = self._build_tokenizer(bytes(state.cpu().numpy()).decode())

    def _build_tokenizer(self, description: str) -> SentenceTokenizer:
        return SentenceTokenizer(
            description, self.max_tokens, self.architecture["pad"], self.architecture.get("prompt", "")
        )

    def _freeze(self, count: int) -> list[nn.Module]:
        """Disable gradients of the word embeddings and the first `count` layers, and return these modules."""
        layers = next((module for module in self.transformer.modules() if isinstance(module, nn.ModuleList)), None)
        if not 0 <= count <= (0 if layers is None else len(layers)):
            raise InputError(
                f"frozen_layers={count} must be 0 to {0 if layers is None else len(layers)}, the encoder's layers"
            )
        if not count:
            return []
        embeddings = cast(nn.Module, getattr(self.transformer, "embeddings", self.transformer.get_input_embeddings()))
        frozen = [embeddings, *list(layers or [])[:count]]
        for module in frozen:
            module.requires_grad_(False)
        return frozen


class SentenceTower(Tower):
    """Projection of a fine-tuned sentence encoder's embedding.

    Reads `text_tokens` `[b, l]` and `text_token_mask` `[b, l]` (`data.tokens`). Parameter names start with `encoder.`
    and `head.`, so `optim.optimizer.lr_factors` can give the two parts different learning rates.

    Args:
        encoder, max_tokens, frozen_layers, checkpointing: see `TrainableSentenceEncoder`.
        out_dim: dimension of the embedding.
        hidden_dim, layers, activation, dropout, init: of the projection, see `ProjectionHead`.

    Raises:
        InputError: an option is out of range; or, when called, a batch without tokens.

    Examples:
        >>> from clep.models import SentenceTower
        >>> tower = SentenceTower("all-tiny-v1", out_dim=4, max_tokens=20)
        >>> batch = tower.tokenize(["opens the fridge", "washes the cup again"])
        >>> tower(batch).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        encoder: str | dict[str, Any],
        out_dim: int,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: ActivationName = "relu",
        dropout: float | int = 0.0,
        init: InitName = "default",
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

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this tower needs: tokens of the same encoder and length."""
        missing = "use model=trainable_text, or add 'data.tokens={_target_: clep.data.TextTokens, encoder: NAME}'"
        alone = "set {} alone, which model.text and data.tokens both follow"
        encoder, max_tokens = config.get("encoder"), config.get("max_tokens", 64)
        return {
            "data.tokens": Need(..., "it reads tokens", missing),
            "data.tokens.encoder": Need(encoder, "its own tokenizer", alone.format("text_encoder")),
            "data.tokens.max_tokens": Need(max_tokens, "its own length", alone.format("data.tokens.max_tokens")),
        }

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Return the embeddings of the texts."""
        if "text_tokens" not in batch or "text_token_mask" not in batch:
            raise InputError(
                "this model's SentenceTower reads tokens, but the batch has none; set data.tokens "
                "(clep.data.TextTokens) as in model=trainable_text"
            )
        mask = batch["text_token_mask"]
        longest = int(mask.sum(1).max()) if len(mask) else 0  # trim the padding: a chunk may have short texts only
        return self.head(self.encoder(batch["text_tokens"][:, :longest], mask[:, :longest]))

    def tokenize(self, sentences: Sequence[str]) -> dict[str, Tensor]:
        """Return the tokens of sentences as keys of a batch, on the CPU."""
        return self.encoder.tokenizer.batch(sentences)

    def saved_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config with the encoder's architecture instead of its name, so that nothing is downloaded."""
        return {**config, "encoder": self.encoder.architecture}
