"""Tokenizer of a trainable sentence encoder."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from clep.errors import InputError


class Tokens(NamedTuple):
    """Token ids of several texts, concatenated: those of text i are `ids[offsets[i] : offsets[i + 1]]`."""

    ids: Int32[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " bounds"]


class SentenceTokenizer:
    """Tokenizes sentences, with the special tokens that the model needs at their start and end.

    Args:
        description: content of a `tokenizer.json`; it is saved with the model.
        max_tokens: longer texts are cut.
        pad: id of padding.
        prompt: prefix of every sentence.

    Raises:
        InputError: the description cannot be read, or `max_tokens` leaves no room for a word.
    """

    def __init__(self, description: str, max_tokens: int, pad: int = 0, prompt: str = "") -> None:
        from tokenizers import Tokenizer

        self.description, self.max_tokens, self.pad, self.prompt = description, max_tokens, pad, prompt
        try:
            self._tokenizer = Tokenizer.from_str(description)
        except Exception as error:  # the library raises nothing narrower
            raise InputError(f"the tokenizer that was saved with the model cannot be read: {error}") from error
        if max_tokens <= self._tokenizer.num_special_tokens_to_add(is_pair=False):
            raise InputError(f"max_tokens={max_tokens} leaves no room for a word; raise it")
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._tokenizer.no_padding()

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Return the token ids of every text, without padding."""
        pieces, lengths = [], np.zeros(len(texts) + 1, dtype=np.int64)
        for begin in range(0, len(texts), 65_536):
            some = [f"{self.prompt}{text}" for text in texts[begin : begin + 65_536]]
            for index, encoding in enumerate(self._tokenizer.encode_batch_fast(some), start=begin + 1):
                pieces.append(np.asarray(encoding.ids, dtype=np.int32))
                lengths[index] = len(pieces[-1])
        return Tokens(np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int32), lengths.cumsum())

    def batch(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return `text_tokens` and `text_token_mask`, `[texts, longest]`, of sentences."""
        ids, offsets = (torch.from_numpy(part) for part in self.tokens(texts))
        return padded_tokens(ids, offsets, torch.arange(len(texts)), self.pad)


def padded_tokens(
    ids: Int32[Tensor, " tokens"], offsets: Int64[Tensor, " bounds"], index: Int64[Tensor, " batch"], pad: int
) -> dict[str, Tensor]:
    """Return the texts `index` padded: `text_tokens` and `text_token_mask`, Int64 and Bool `[batch, longest]`.

    Args:
        ids, offsets: as in `Tokens`, on one device.
        index: which texts, on that device. On a GPU this synchronises, to know the longest length.
        pad: id of padding.
    """
    first = offsets[index]
    length = offsets[index + 1] - first
    step = torch.arange(int(length.max()) if len(index) else 0, device=index.device)
    mask: Bool[Tensor, "batch longest"] = step < length[:, None]
    position = (first[:, None] + step).clamp(max=max(len(ids) - 1, 0))
    return {"text_tokens": ids[position].long().masked_fill(~mask, pad), "text_token_mask": mask}
