"""A sentence-transformers model of a few thousand weights, in a folder: the real formats without the real size."""

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = [
    *("camera", "wearer", "opens", "closes", "takes", "washes", "the", "a", "door", "cup", "fridge"),
    *("knife", "pan", "tap", "again", "man", "woman", "is", "in", "this", "video"),
]


def tiny_sentence_model(
    folder: Path, pooling: str = "mean", dense: bool = False, normalize: bool = True, dropout: float = 0.0
) -> str:
    """Write a model to `folder` and return its path."""
    torch.manual_seed(4)
    base = folder / "base"
    base.mkdir(parents=True)
    (base / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BertTokenizerFast(str(base / "vocab.txt")).save_pretrained(base)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        max_position_embeddings=24,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.5,
        **sizes,
    )
    BertModel(config).save_pretrained(base)
    first = Transformer(str(base), max_seq_length=20)
    modules = [first, Pooling(16, pooling_mode=pooling)]
    modules += [Dense(16, 10, activation_function=torch.nn.Tanh())] if dense else []
    modules += [Normalize()] if normalize else []
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "tiny"))
    return str(folder / "tiny")
