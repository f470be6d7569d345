"""Tokens in batches, compared with the sentence encoder's tokenizer."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clep.data import MomentDataModule, TextTokens
from clep.data.text_tokens import TokenTable
from clep.errors import InputError
from clep.text import Narrations
from clep.text.sentence_encoder import load_sentence_model
from tests.tiny_sentence_model import tiny_sentence_model
from tests.tiny_source import tiny_source, write_tiny_files

TEXTS = ["Camera wearer opens the door", "", "a cup", "the knife " * 30]


def test_tokens_are_the_encoders(tmp_path: Path) -> None:
    path = tiny_sentence_model(tmp_path)
    table = TokenTable(TextTokens(path, max_tokens=20).tokenizer(), TEXTS)
    assert len(table) == 4
    theirs = load_sentence_model(path, "cpu").preprocess(TEXTS)
    ours = table.take(torch.arange(4))
    assert torch.equal(ours["text_tokens"], theirs["input_ids"])
    assert torch.equal(ours["text_token_mask"], theirs["attention_mask"].bool())


def test_a_batch_is_as_wide_as_its_longest(tmp_path: Path) -> None:
    table = TokenTable(TextTokens(tiny_sentence_model(tmp_path), max_tokens=9).tokenizer(), TEXTS)
    taken = table.take(torch.tensor([2, 0, 2]))
    assert taken["text_tokens"].shape == taken["text_token_mask"].shape == (3, 7)
    assert taken["text_token_mask"].sum(1).tolist() == [4, 7, 4]
    assert not taken["text_tokens"][0, 4:].any()
    assert table.take(torch.tensor([3]))["text_tokens"].shape == (1, 9)
    assert table.take(torch.zeros(0, dtype=torch.int64))["text_tokens"].shape == (0, 0)


def test_more_tokens_than_the_encoder_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.tokens\.max_tokens=21: .* takes 1 to 20"):
        TextTokens(tiny_sentence_model(tmp_path), max_tokens=21).tokenizer()


def test_batches_of_mixed_sources_carry_the_tokens_of_their_texts(tmp_path: Path) -> None:
    path = tiny_sentence_model(tmp_path)
    write_tiny_files(tmp_path / "b", videos=6, seed=1, name="w")
    sources = {name: tiny_source(tmp_path / name, val_fraction=0.2) for name in ("a", "b")}
    data = MomentDataModule(sources, batch_size=8, tokens=TextTokens(path, 20))
    data.setup()
    tokenizer = TextTokens(path, 20).tokenizer()
    for held_out in (data.train_set, data.val_set):
        for index in ([0, 1, len(held_out) - 1], [len(held_out) - 2], [3, 2]):
            batch = held_out.__getitems__(index)
            counts = [sum(held_out.bounds[n] <= i < held_out.bounds[n + 1] for i in index) for n in range(2)]
            texts, place = [], 0
            for part, source, count in zip(held_out.parts, sources.values(), counts, strict=True):
                for moment in batch["moment"][place : place + count] - held_out.bounds[held_out.parts.index(part)]:
                    texts.append(Narrations.open(source.narrations_path).texts[part.moments.text_id[moment]])
                place += count
            for row, mask, text in zip(batch["text_tokens"], batch["text_token_mask"], texts, strict=True):
                assert row[mask].tolist() == tokenizer.tokens([text]).ids.tolist()
    assert "text" in batch


def test_many_texts_take_four_bytes_a_token(tmp_path: Path) -> None:
    tokenizer = TextTokens(tiny_sentence_model(tmp_path), 20).tokenizer()
    tokens = tokenizer.tokens(["a cup"] * 70_000)  # more than one piece of the tokenizer's work
    assert tokens.ids.dtype == np.int32
    assert tokens.offsets[-1] == len(tokens.ids) == 4 * 70_000
    assert (tokens.ids.reshape(-1, 4) == tokens.ids[:4]).all()
