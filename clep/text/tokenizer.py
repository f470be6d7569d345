"""Sentences to the numbers of their tokens, as a sentence encoder that is trained wants them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from clep.errors import InputError


class Tokens(NamedTuple):
    """Token numbers of texts one after the other: those of text i are `numbers[offsets[i] : offsets[i + 1]]`."""

    numbers: Int32[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " bounds"]


class SentenceTokenizer:
    """Tokenize sentences, each with the marks at its start and end that the model wants.

    Args:
        description: the tokenizer as the JSON text of a `tokenizer.json`; it travels with a saved model.
        max_tokens: longer texts are cut.
        pad: number that stands in places without a token.
        prompt: what the model wants before every sentence.

    Raises:
        InputError: the description cannot be read, or `max_tokens` leaves no place for a word.
    """

    def __init__(self, description: str, max_tokens: int, pad: int = 0, prompt: str = "") -> None:
        from tokenizers import Tokenizer

        self.description, self.max_tokens, self.pad, self.prompt = description, max_tokens, pad, prompt
        try:
            self._tokenizer = Tokenizer.from_str(description)
        except Exception as error:  # the library raises nothing narrower
            raise InputError(f"the tokenizer that came with the model cannot be read: {error}") from error
        if max_tokens <= self._tokenizer.num_special_tokens_to_add(is_pair=False):
            raise InputError(f"max_tokens={max_tokens} leaves no place for a word")
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._tokenizer.no_padding()

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of every text, without padding."""
        pieces, lengths = [], np.zeros(len(texts) + 1, dtype=np.int64)
        for begin in range(0, len(texts), 65_536):
            some = [f"{self.prompt}{text}" for text in texts[begin : begin + 65_536]]
            for place, encoding in enumerate(self._tokenizer.encode_batch_fast(some), start=begin + 1):
                pieces.append(np.asarray(encoding.ids, dtype=np.int32))
                lengths[place] = len(pieces[-1])
        return Tokens(np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int32), lengths.cumsum())

    def batch(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return `text_tokens` and `text_token_mask`, `[texts, longest]`, of sentences."""
        numbers, offsets = (torch.from_numpy(part) for part in self.tokens(texts))
        return padded_tokens(numbers, offsets, torch.arange(len(texts)), self.pad)


def padded_tokens(
    numbers: Int32[Tensor, " tokens"], offsets: Int64[Tensor, " bounds"], index: Int64[Tensor, " batch"], pad: int
) -> dict[str, Tensor]:
    """Return the texts `index` as `text_tokens`, Int64 `[batch, longest]`, and `text_token_mask`, Bool of that shape.

    Args:
        numbers, offsets: as in `Tokens`, on one device.
        index: which texts, on that device. On a GPU the host waits to learn how long the longest is.
        pad: number in places without a token.
    """
    first = offsets[index]
    length = offsets[index + 1] - first
    step = torch.arange(int(length.max()) if len(index) else 0, device=index.device)
    mask: Bool[Tensor, "batch longest"] = step < length[:, None]
    place = (first[:, None] + step).clamp(max=max(len(numbers) - 1, 0))
    return {"text_tokens": numbers[place].long().masked_fill(~mask, pad), "text_token_mask": mask}
