import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from clep.errors import InputError
from clep.text import SentenceEncoder
from clep.text.image_text_sentences import image_text_type
from clep.video.encoders import ImageText
from tests.video.encoders import tiny_models

WORDS = ["cuts", "a", "loaf", "of", "bread", "washes", "the", "dishes"]
SENTENCES = ["cuts a loaf", "washes the dishes", "a", "cuts a loaf", "washes the loaf of bread", "the " * 40]


def clip_folder(folder: Path) -> Path:
    """Save a tiny CLIP whose tokenizer knows eight words letter by letter."""
    letters = sorted(set("".join(WORDS)))
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    tiny_models.clip(folder, len(tokens))
    return folder


def siglip_folder(folder: Path) -> Path:
    """Save a tiny SigLIP with a tokenizer of eight words."""
    vocabulary = {word: number for number, word in enumerate(["</s>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="</s>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="</s>", unk_token="</s>").save_pretrained(folder)
    tiny_models.siglip(folder, len(vocabulary))
    return folder


def unit(rows: torch.Tensor) -> np.ndarray:
    return (rows / rows.norm(dim=1, keepdim=True)).detach().numpy()


def test_clip_texts_equal_the_models_own(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "my clip")
    encoder = SentenceEncoder(str(folder), device="cpu", batch_size=2)
    assert (encoder.name, encoder.dim) == ("my-clip", 12)
    vectors = encoder.encode(SENTENCES)
    model, tokenizer = tiny_models.CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    for sentence, vector in zip(SENTENCES, vectors, strict=True):
        tokens = tokenizer([sentence], truncation=True, max_length=10, return_tensors="pt")
        assert tokens["input_ids"].shape[1] <= 10
        expected = unit(model.get_text_features(**tokens).pooler_output)[0]
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert np.array_equal(vectors[0], vectors[3])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    streamed = np.concatenate([rows for _, rows in encoder.stream(SENTENCES[:3], chunk=2, progress=False)])
    np.testing.assert_allclose(streamed, vectors[:3], atol=1e-5)


def test_siglip_texts_are_padded_to_the_full_length_without_a_mask(tmp_path: Path) -> None:
    folder = siglip_folder(tmp_path / "siglip")
    encoder = SentenceEncoder(str(folder), device="cpu", batch_size=3)
    assert (encoder.name, encoder.dim) == ("siglip", 16)
    model = tiny_models.SiglipModel.from_pretrained(folder)
    numbers = {word: number for number, word in enumerate(["</s>", *WORDS])}
    for sentence, vector in zip(SENTENCES, encoder.encode(SENTENCES), strict=True):
        ids = [numbers[word] for word in sentence.split()][:10]
        ids += [0] * (10 - len(ids))
        expected = unit(model.get_text_features(input_ids=torch.tensor([ids])).pooler_output)[0]
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_texts_and_clips_lie_in_one_space(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "clip")
    clips = torch.randn(3, 2, 3, 16, 16)
    text = SentenceEncoder(str(folder), device="cpu").encode(SENTENCES)
    video = ImageText(str(folder))(clips).numpy()
    model = tiny_models.CLIPModel.from_pretrained(folder)
    images = unit(model.get_image_features(pixel_values=clips.flatten(0, 1)).pooler_output)
    cosines = (images @ text.T).reshape(3, 2, len(SENTENCES)).mean(1)
    np.testing.assert_allclose(video @ text.T, cosines, atol=1e-5)


@pytest.mark.usefixtures("quick_processes")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    folder = str(clip_folder(tmp_path / "clip"))
    sentences = [f"cuts {'a ' * count}loaf" for count in range(9)]
    several = SentenceEncoder(folder, device=["cpu", "cpu"], batch_size=2).encode(sentences)
    np.testing.assert_allclose(several, SentenceEncoder(folder, device="cpu").encode(sentences), atol=1e-5)


def test_which_models_are_taken(tmp_path: Path) -> None:
    def made(config: str, *files: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "config.json").write_text(config)
        for file in files:
            (folder / file).write_text("[]")
        return str(folder)

    assert image_text_type(made('{"model_type": "siglip2"}')) == "siglip2"
    assert image_text_type(made('{"model_type": "bert"}')) is None
    assert image_text_type(made('{"model_type": "clip"}', "modules.json")) is None
    for config in ("", "[]", '{"model_type": ["clip"]}'):
        assert image_text_type(made(config)) is None
    assert image_text_type("all-mpnet-base-v2") is None
    assert image_text_type("someone/model") is None


def test_damaged_models(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "clip")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot load the sentence encoder"):
        SentenceEncoder(str(folder), device="cpu")
    weights.write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"lack text_model\.encoder\.layers\.2"):
        SentenceEncoder(str(folder), device="cpu")
