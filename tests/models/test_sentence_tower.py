"""Text tower that fine-tunes the sentence encoder, with a tiny model in the real formats."""

from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.models import DualEncoder, SentenceTower, TrainableSentenceEncoder
from clep.text import SentenceEncoder
from tests.tiny_sentence_model import tiny_sentence_model

SENTENCES = ["Camera wearer opens the door", "a cup", "", "the man takes a knife " * 9, "words that are unknown"]
KINDS = [("mean", False, True), ("cls", False, False), ("max", True, True), ("mean", True, False)]


@pytest.mark.parametrize(("pooling", "dense", "normalize"), KINDS)
def test_it_starts_equal_to_the_frozen_encoder(tmp_path: Path, pooling: str, dense: bool, normalize: bool) -> None:
    path = tiny_sentence_model(tmp_path, pooling, dense, normalize)
    live = TrainableSentenceEncoder(path, max_tokens=20).eval()
    given = live.tokenizer.batch(SENTENCES)
    assert given["text_tokens"].shape == (5, 20)  # the fourth is truncated
    frozen = torch.from_numpy(SentenceEncoder(path, device="cpu").encode(SENTENCES))
    assert live.out_dim == frozen.shape[1]
    torch.testing.assert_close(live(given["text_tokens"], given["text_token_mask"]), frozen, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(tmp_path: Path) -> None:
    live = TrainableSentenceEncoder(tiny_sentence_model(tmp_path), max_tokens=20).eval()
    one, many = live.tokenizer.batch(SENTENCES[:1]), live.tokenizer.batch(SENTENCES)
    padded = live(many["text_tokens"], many["text_token_mask"])[:1]
    torch.testing.assert_close(live(one["text_tokens"], one["text_token_mask"]), padded, rtol=1e-4, atol=1e-5)
    many["text_tokens"][~many["text_token_mask"]] = 7
    torch.testing.assert_close(live(many["text_tokens"], many["text_token_mask"])[:1], padded, rtol=1e-4, atol=1e-5)


def model(path: str, **options: object) -> DualEncoder:
    text = {"_target_": "clep.models.SentenceTower", "encoder": path, "out_dim": 6, "max_tokens": 20, **options}
    video = {"_target_": "clep.models.ProjectionHead", "in_dim": 4, "out_dim": 6}
    return DualEncoder.from_config({"video": video, "text": text})


def test_a_saved_model_loads_without_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_sentence_model(tmp_path / "base", dense=True)
    made = model(path).eval()
    with torch.no_grad():
        made.text.encoder.transformer.embeddings.word_embeddings.weight.add_(0.5)  # simulate training
    made.save_pretrained(tmp_path / "saved")
    Path(path).rename(tmp_path / "gone")
    monkeypatch.setattr("clep.models.trainable_text.load_parts", lambda name: pytest.fail("the base was asked for"))
    loaded = DualEncoder.from_pretrained(tmp_path / "saved")
    assert loaded.config == made.config
    torch.testing.assert_close(loaded.encode_sentences(SENTENCES), made.encode_sentences(SENTENCES))
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_text() == (tmp_path / "saved" / "config.json").read_text()
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()


def test_an_untrusted_architecture_builds_only_a_transformer(tmp_path: Path) -> None:
    architecture = TrainableSentenceEncoder(tiny_sentence_model(tmp_path), max_tokens=20).architecture
    stranger = {**architecture, "transformer": {**architecture["transformer"], "auto_map": {"AutoModel": "evil.Evil"}}}
    assert type(TrainableSentenceEncoder(stranger, max_tokens=20).transformer).__name__ == "BertModel"
    for wrong in ({"model_type": "no_such_model"}, {}, {"model_type": "bert", "hidden_size": "many"}):
        with pytest.raises(InputError, match="sentence encoder cannot be built as described"):
            TrainableSentenceEncoder({**architecture, "transformer": wrong}, max_tokens=20)
    with pytest.raises(InputError, match="needs `transformer`"):
        TrainableSentenceEncoder({"pooling": "mean"}, max_tokens=20)


def test_frozen_layers_get_no_gradient_and_all_others_do(tmp_path: Path) -> None:
    path = tiny_sentence_model(tmp_path, dropout=0.1)
    for frozen, checkpointing in ((0, False), (2, False), (0, True)):
        tower = SentenceTower(path, 6, max_tokens=20, frozen_layers=frozen, checkpointing=checkpointing).train()
        tower(tower.tokenize(SENTENCES)).square().sum().backward()
        for name, parameter in tower.named_parameters():
            still = any(part in name for part in ["embeddings", "layer.0.", "layer.1."][: frozen + 1]) and frozen > 0
            assert parameter.requires_grad != still, name
            assert (parameter.grad is None) == still, name
        layers = tower.encoder.transformer.encoder.layer
        assert [m.training for m in SentenceTower(path, 6, max_tokens=20).modules()] == [True] * len(
            list(tower.modules())
        )
        assert [layer.training for layer in layers] == [frozen == 0, frozen == 0, True]
        tower.eval().train()
        assert tower.encoder.transformer.embeddings.training == (frozen == 0)


def test_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    path, gradients = tiny_sentence_model(tmp_path), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        tower = SentenceTower(path, 6, max_tokens=20, checkpointing=checkpointing).train()
        tower(tower.tokenize(SENTENCES)).square().sum().backward()
        gradients.append([p.grad for p in tower.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_tower_of_frozen_embeddings_has_no_tokenizer() -> None:
    head = {"_target_": "clep.models.ProjectionHead", "in_dim": 4, "out_dim": 6}
    made = DualEncoder.from_config({"video": head, "text": head})
    assert not made.reads_tokens
    with pytest.raises(ValueError, match="not tokens"):
        made.tokenize(["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 21}, "max_tokens=21 must be 1 to 20"),
        ({"max_tokens": 2}, "leaves no room for a word"),
        ({"frozen_layers": 4}, "frozen_layers=4 must be 0 to 3"),
        ({"frozen_layers": -1}, "frozen_layers=-1"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SentenceTower(tiny_sentence_model(tmp_path), 6, **{"max_tokens": 20, **options})


def test_unsupported_encoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pooling 'lasttoken'.*model=mlp"):
        TrainableSentenceEncoder(tiny_sentence_model(tmp_path, "lasttoken"), max_tokens=20)
    with pytest.raises(InputError, match="does not exist"):
        TrainableSentenceEncoder("/no/such/folder")


def test_a_batch_without_tokens_is_refused(tmp_path: Path) -> None:
    tower = SentenceTower(tiny_sentence_model(tmp_path), 6, max_tokens=20)
    with pytest.raises(InputError, match=r"set data\.tokens"):
        tower({"text": torch.zeros(2, 16)})
