import numpy as np
import pytest
import torch

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.preprocess.coverage import read_coverage
from clep.preprocess.text_embeddings import TextBank, text_bank_path
from clep.text import Texts

from .conftest import embed

TEXTS = [f"sentence {number}" for number in range(10)]


def bank_of(folder, texts=TEXTS, digest: str | None = None, **sets) -> TextBank:
    texts = Texts.of(texts)
    return TextBank(folder, "texts", sets or {"texts": texts}, "fake", digest or texts.digest())


def test_row_i_is_text_i(tmp_path, encoder):
    coverage = bank_of(tmp_path).write(chunk=3)
    bank = FeatureBank.open(tmp_path / "texts.fake.h5")
    assert list(bank.videos) == ["texts"]
    assert (bank.clock, bank.encoder, bank.dtype) == (None, "fake", torch.float32)
    assert bank.source == Texts.of(TEXTS).digest()
    assert np.array_equal(bank.video_rows("texts").numpy(), np.stack([embed(text) for text in TEXTS]))
    assert coverage["counts"] == {"continued_from": 0, "texts": 10, "sets": 1, "dim": 4, "encoder": "fake"}
    assert read_coverage(tmp_path / "texts.fake.h5")["counts"] == coverage["counts"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.fake.coverage.json", "texts.fake.h5"]


def test_nothing_is_encoded_twice(tmp_path, encoder):
    bank_of(tmp_path).write()
    again = bank_of(tmp_path).write()
    assert again["up_to_date"]
    assert encoder.encoded == TEXTS
    assert bank_of(tmp_path).texts_left() == 0


def test_other_texts_make_the_bank_stale(tmp_path, encoder):
    bank_of(tmp_path).write()
    other = [*TEXTS[:-1], "another"]
    assert bank_of(tmp_path, other).texts_left() == 10
    assert not bank_of(tmp_path, other).write()["up_to_date"]
    rows = FeatureBank.open(tmp_path / "texts.fake.h5").video_rows("texts")
    assert rows[9].tolist() == embed("another").tolist()


def test_a_truncated_bank_is_made_again(tmp_path, encoder):
    bank = bank_of(tmp_path)
    bank.write()
    content = bank.path.read_bytes()
    bank.path.write_bytes(content[: len(content) // 2])
    assert not bank.is_current()
    bank.write()
    assert bank.is_current()


@pytest.mark.parametrize("chunk_after", [3, 4, 100])
def test_after_ctrl_c_a_second_run_continues_and_gives_the_same_bank(tmp_path, encoder, chunk_after):
    bank_of(tmp_path / "whole").write(chunk=3)
    encoder.encoded.clear()
    encoder.interrupt_after = 6
    with pytest.raises(KeyboardInterrupt):
        bank_of(tmp_path).write(chunk=3)
    assert not (tmp_path / "texts.fake.h5").exists()
    assert len(list((tmp_path / ".texts.fake.parts").iterdir())) == 2
    assert bank_of(tmp_path).texts_left() == 4
    encoder.interrupt_after = None
    coverage = bank_of(tmp_path).write(chunk=chunk_after)
    assert coverage["counts"]["continued_from"] == 6
    assert encoder.encoded == TEXTS
    rows = FeatureBank.open(tmp_path / "texts.fake.h5").video_rows("texts")
    assert torch.equal(rows, FeatureBank.open(tmp_path / "whole" / "texts.fake.h5").video_rows("texts"))
    assert not (tmp_path / ".texts.fake.parts").exists()


def test_parts_of_other_texts_and_parts_after_a_gap_are_not_taken_over(tmp_path, encoder):
    encoder.interrupt_after = 9
    with pytest.raises(KeyboardInterrupt):
        bank_of(tmp_path).write(chunk=3)
    next(tmp_path.glob(".texts.fake.parts/*0000000003.npy")).unlink()
    assert bank_of(tmp_path).texts_left() == 7
    encoder.interrupt_after = None
    encoder.encoded.clear()
    other = [*TEXTS, "more"]
    bank_of(tmp_path, other).write(chunk=3)
    assert encoder.encoded == other


def test_several_sets_lie_one_after_the_other(tmp_path, encoder):
    sets = {"label": ["a", "b"], "prompt": ["is a", "is b"]}
    bank_of(tmp_path, digest="d", **sets).write()
    bank = FeatureBank.open(tmp_path / "texts.fake.h5")
    assert list(bank.videos) == ["label", "prompt"]
    assert bank.video_rows("prompt")[1].tolist() == embed("is b").tolist()


def test_a_chunk_of_nothing_is_refused(tmp_path, encoder):
    with pytest.raises(InputError, match="chunk=0"):
        bank_of(tmp_path).write(chunk=0)


def test_the_path_carries_the_name_of_the_encoder(tmp_path):
    assert (
        text_bank_path(tmp_path, "texts", "sentence-transformers/all-mpnet-base-v2").name
        == "texts.all-mpnet-base-v2.h5"
    )
    assert text_bank_path(tmp_path, "prompts", "org/model v1.5").name == "prompts.org--model-v1.5.h5"
