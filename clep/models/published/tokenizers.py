"""Tokenizers of the published models: CLIP's BPE, WordPiece (BERT, DistilBERT), RoBERTa's BPE, Gemma's."""

import html
import re
import string
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clep.errors import InputError
from clep.models.published.model import PublishedModel, Tokenizer, Tokens

if TYPE_CHECKING:
    from instant_clip_tokenizer import Tokenizer as ClipBpe

START, END = 49406, 49407
OPENAI_SPECIAL, OPEN_CLIP_SPECIAL = ("<|startoftext|>", "<|endoftext|>"), ("<start_of_text>", "<end_of_text>")
_INSIDE_SPECIAL = re.compile(r"(?<=<)(?=(?:start|end)_of_text>)")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")
# The tokenizer that the official code loads from the hub, and the tokens to which it cuts or pads every sentence.
_HUB = {
    "distilbert": ("distilbert-base-uncased", None),
    "roberta": ("roberta-base", None),
    "bert": ("google-bert/bert-large-uncased", 10),
    "siglip2": ("google/siglip2-base-patch16-224", 64),
}


def clip_clean(text: str) -> str:
    """Clean a sentence as CLIP does: repair Unicode, unescape HTML twice, collapse whitespace, lower case."""
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text.strip()).strip().lower()


def siglip_clean(text: str) -> str:
    """Clean a sentence as SigLIP 2's code does: no ASCII punctuation, lower case, whitespace collapsed."""
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text))).replace("_", " ")
    return re.sub(r"\s+", " ", text.translate(str.maketrans("", "", string.punctuation)).lower()).strip()


class ClipTokenizer:
    """CLIP's byte-pair encoding (lower case, 49,408 ids), with the vocabulary of the package instant-clip-tokenizer.

    Args:
        context: tokens per sentence; shorter ones are padded with 0.
        keep_end: whether a sentence that is cut ends with the end token (AVION, PE) or without it (LaViLa).
        special: how the start and end tokens are written in a sentence; LaViLa's code has OpenAI's way.

    Raises:
        InputError: the package is not installed.
    """

    def __init__(self, context: int, keep_end: bool, special: tuple[str, str] = OPENAI_SPECIAL) -> None:
        try:
            from instant_clip_tokenizer import Tokenizer as Bpe
        except ImportError as error:
            raise InputError(
                "CLIP's tokenizer is not installed: pip install 'clep[published]', or give tokenizer=NAME_OR_FOLDER of "
                "transformers, e.g. openai/clip-vit-base-patch16"
            ) from error
        self._bpe: ClipBpe = Bpe()
        self.context, self.keep_end, self.special = context, keep_end, special
        self._split = re.compile("({}|{})".format(*map(re.escape, special)))

    def __reduce__(self) -> tuple[Any, ...]:
        return ClipTokenizer, (self.context, self.keep_end, self.special)

    def __call__(self, sentences: list[str]) -> Tokens:
        """Return token ids `[sentences, context]`."""
        ids = torch.zeros(len(sentences), self.context, dtype=torch.int64)
        mask = torch.zeros(len(sentences), self.context, dtype=torch.bool)
        for row, sentence in enumerate(sentences):
            found = [START, *self._encode(clip_clean(sentence)), END]
            if len(found) > self.context:
                found = found[: self.context]
                if self.keep_end:
                    found[-1] = END
            ids[row, : len(found)] = torch.tensor(found)
            mask[row, : len(found)] = True
        return Tokens(ids, mask)

    def _encode(self, text: str) -> list[int]:
        ids = dict(zip(self.special, (START, END), strict=True))
        found: list[int] = []
        for piece in self._split.split(text):
            if piece in ids:
                found.append(ids[piece])
            else:  # the package knows open_clip's special tokens, which are plain text to LaViLa's code
                for part in _INSIDE_SPECIAL.split(piece):
                    found += self._bpe.encode(part)
        return found


class HubTokenizer:
    """A tokenizer of transformers.

    Args:
        name: hub name or folder.
        length: tokens to which every sentence is cut or padded; None: padded to the longest, at most 512.
        clean: applied to each sentence first.

    Raises:
        InputError: the tokenizer is neither on this machine nor on the hub.
    """

    def __init__(self, name: str, length: int | None, clean: Callable[[str], str] | None = None) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise InputError(
                f"the tokenizer {name} cannot be loaded ({str(error).splitlines()[0][:120]}); give tokenizer=FOLDER of "
                "a downloaded one"
            ) from error
        self.length, self.clean = length, clean

    def __call__(self, sentences: list[str]) -> Tokens:
        """Return token ids, padded."""
        texts = sentences if self.clean is None else [self.clean(text) for text in sentences]
        fixed = self.length is not None
        found = self._tokenizer(
            texts,
            padding="max_length" if fixed else True,
            truncation=True,
            max_length=self.length or 512,
            return_tensors="pt",
            return_attention_mask=True,
        )
        return Tokens(found["input_ids"], found["attention_mask"].bool())


def find_tokenizer(model: PublishedModel, weights: str | Path, name: str | None) -> Tokenizer:
    """Return the tokenizer of a model, which is loaded on first use: banks of videos need none.

    Args:
        model: the model.
        weights: file or folder that it was loaded from; a tokenizer of transformers in that folder is used.
        name: hub name or folder of a tokenizer; None: the one that the official code loads.
    """
    folder = Path(weights).expanduser()
    if name is None and folder.is_dir() and any((folder / file).is_file() for file in _TOKENIZER_FILES):
        name = str(folder)
    text = getattr(model, "textual", None) or getattr(model, "text_model", None)
    family = getattr(getattr(text, "config", None), "model_type", model.kind)
    if model.kind in ("lavila", "avion", "pe") and family not in _HUB:
        context = text.positional_embedding.shape[0]  # type: ignore[union-attr]
        if name is not None:
            return _LoadedOnFirstUse(partial(HubTokenizer, name, context))
        lavila = model.kind == "lavila"
        special = OPENAI_SPECIAL if lavila else OPEN_CLIP_SPECIAL
        return _LoadedOnFirstUse(partial(ClipTokenizer, context, not lavila, special))
    if model.kind == "clip":
        context = int(model.model.config.text_config.max_position_embeddings)  # type: ignore[union-attr, arg-type]
        return _LoadedOnFirstUse(partial(HubTokenizer, name or str(weights), context))
    usual, length = _HUB[family]
    if model.kind == "lavila" and family == "distilbert":
        length = 77
    if model.kind == "siglip2":
        if not folder.exists():  # a model of the hub has its tokenizer beside it
            usual = str(weights)
        length = int(model.model.config.text_config.max_position_embeddings)  # type: ignore[union-attr, arg-type]
    clean = siglip_clean if model.kind == "siglip2" else None
    return _LoadedOnFirstUse(partial(HubTokenizer, name or usual, length, clean))


class _LoadedOnFirstUse:
    def __init__(self, load: Callable[[], Tokenizer]) -> None:
        self._load = load
        self._loaded: Tokenizer | None = None

    def __call__(self, sentences: list[str]) -> Tokens:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded(sentences)
