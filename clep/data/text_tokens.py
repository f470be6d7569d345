"""The tokens of texts as keys of a batch, for a text tower that trains the sentence encoder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from clep.errors import InputError
from clep.text import Narrations
from clep.text.sentence_parts import load_parts
from clep.text.tokenizer import SentenceTokenizer, padded_tokens

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextTokens:
    """How texts are tokenized; each distinct one once, when the data is opened.

    Attributes:
        encoder: name or folder of the sentence encoder that is trained.
        max_tokens: longer texts are cut.
    """

    encoder: str
    max_tokens: int = 64

    def tokenizer(self) -> SentenceTokenizer:
        """Return the encoder's tokenizer.

        Raises:
            InputError: the encoder cannot be loaded, or takes fewer tokens.
        """
        parts = load_parts(self.encoder)
        most = parts.architecture["max_tokens"]
        if not 0 < self.max_tokens <= most:
            raise InputError(f"data.tokens.max_tokens={self.max_tokens}: {self.encoder} takes 1 to {most} tokens")
        return SentenceTokenizer(
            parts.tokenizer, self.max_tokens, parts.architecture["pad"], parts.architecture["prompt"]
        )


class TokenTable:
    """The tokens of a source's distinct texts: 4 bytes a token, no Python object for each text."""

    def __init__(self, tokenizer: SentenceTokenizer, texts: Sequence[str]) -> None:
        numbers, offsets = tokenizer.tokens(texts)
        self._numbers: Int32[Tensor, " tokens"] = torch.from_numpy(numbers)
        self._offsets: Int64[Tensor, " bounds"] = torch.from_numpy(offsets)
        self.pad = tokenizer.pad

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def take(self, text_id: Int64[Tensor, " batch"]) -> dict[str, Tensor]:
        """Return `text_tokens` and `text_token_mask` `[batch, longest]` of some texts, on the device of `text_id`."""
        if self._numbers.device != text_id.device:
            self._numbers, self._offsets = self._numbers.to(text_id.device), self._offsets.to(text_id.device)
        return padded_tokens(self._numbers, self._offsets, text_id, self.pad)


def token_tables(paths: Sequence[str | Path], tokens: TextTokens) -> list[TokenTable]:
    """Return the tokens of the texts of each narrations file, with one tokenizer."""
    tokenizer = tokens.tokenizer()
    tables = []
    for path in paths:
        tables.append(TokenTable(tokenizer, Narrations.open(path).texts))
        log.info("%s: tokenized %d texts", path, len(tables[-1]))
    return tables
