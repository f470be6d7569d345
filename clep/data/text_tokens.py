"""Tokens of texts as keys of a batch, for text towers that fine-tune the sentence encoder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from clep.errors import InputError
from clep.text.sentence_parts import load_parts
from clep.text.tokenizer import SentenceTokenizer, padded_tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextTokens:
    """How texts are tokenized: each distinct text once, when the data is opened.

    Attributes:
        encoder: name or folder of the sentence encoder that is fine-tuned.
        max_tokens: longer texts are truncated.

    Examples:
        >>> from clep.data import TextTokens
        >>> tokens = TextTokens("all-tiny-v1", max_tokens=20)
        >>> type(tokens.tokenizer()).__name__
        'SentenceTokenizer'
    """

    encoder: str
    max_tokens: int = 64

    def tokenizer(self) -> SentenceTokenizer:
        """Return the encoder's tokenizer.

        Raises:
            InputError: the encoder cannot be loaded, or its limit is below `max_tokens`.
        """
        parts = load_parts(self.encoder)
        most = parts.architecture["max_tokens"]
        if not 0 < self.max_tokens <= most:
            raise InputError(f"data.tokens.max_tokens={self.max_tokens}: {self.encoder} takes 1 to {most} tokens")
        return SentenceTokenizer(
            parts.tokenizer, self.max_tokens, parts.architecture["pad"], parts.architecture["prompt"]
        )


class TokenTable:
    """The tokens of the distinct texts of a source: 4 bytes per token, no Python object per text."""

    def __init__(self, tokenizer: SentenceTokenizer, texts: Sequence[str]) -> None:
        tokens, offsets = tokenizer.tokens(texts)
        self._tokens: Int32[Tensor, " tokens"] = torch.from_numpy(tokens)
        self._offsets: Int64[Tensor, " bounds"] = torch.from_numpy(offsets)
        self.pad = tokenizer.pad

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def take(self, text_id: Int64[Tensor, " batch"]) -> dict[str, Tensor]:
        """Return `text_tokens` and `text_token_mask` `[batch, longest]`."""
        return padded_tokens(self._tokens, self._offsets, text_id, self.pad)


def token_tables(sentences: Mapping[str, Sequence[str]], tokens: TextTokens) -> list[TokenTable]:
    """Return the token table of each source.

    Args:
        sentences: of each source, by its title.
        tokens: how they are tokenized.
    """
    tokenizer = tokens.tokenizer()
    tables = []
    for title, texts in sentences.items():
        tables.append(TokenTable(tokenizer, texts))
        log.info("%s: tokenized %d texts", title, len(texts))
    return tables
