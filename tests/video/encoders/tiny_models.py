"""Small models with random weights, saved as folders of transformers."""

from pathlib import Path
from typing import Any

from transformers import (
    CLIPConfig,
    CLIPModel,
    SiglipConfig,
    SiglipModel,
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
)

_SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_PICTURE = {"image_size": 16, "patch_size": 8}


def save(model: Any, folder: Path) -> Any:
    """Save a model in evaluation mode; return it."""
    model.eval().save_pretrained(folder)
    return model


def timesformer(folder: Path, **options: Any) -> TimesformerForVideoClassification:
    config = TimesformerConfig(**(_SIZES | _PICTURE | {"num_frames": 4, "num_labels": 3} | options))
    model = TimesformerForVideoClassification(config)
    for layer in model.timesformer.encoder.layer:
        layer.temporal_dense.weight.data.normal_()
    return save(model, folder)


def videomae(folder: Path, tuned: bool) -> VideoMAEForVideoClassification | VideoMAEForPreTraining:
    decoder = {"decoder_hidden_size": 8, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1}
    config = VideoMAEConfig(**_SIZES, **_PICTURE, **decoder, num_frames=4, use_mean_pooling=tuned, num_labels=3)
    return save(VideoMAEForVideoClassification(config) if tuned else VideoMAEForPreTraining(config), folder)


def vjepa2(folder: Path, tuned: bool) -> VJEPA2ForVideoClassification | VJEPA2Model:
    predictor = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2.0}
    picture = {"crop_size": 32, "patch_size": 8, "frames_per_clip": 4}
    config = VJEPA2Config(**sizes, **picture, **predictor, num_pooler_layers=1, num_labels=3)
    return save(VJEPA2ForVideoClassification(config) if tuned else VJEPA2Model(config), folder)


def clip(folder: Path, vocab_size: int = 300) -> CLIPModel:
    text = _SIZES | {"vocab_size": vocab_size, "max_position_embeddings": 10, "eos_token_id": 1, "bos_token_id": 0}
    return save(CLIPModel(CLIPConfig(text_config=text, vision_config=_SIZES | _PICTURE, projection_dim=12)), folder)


def siglip(folder: Path, vocab_size: int = 300) -> SiglipModel:
    text = _SIZES | {"vocab_size": vocab_size, "max_position_embeddings": 10}
    return save(SiglipModel(SiglipConfig(text_config=text, vision_config=_SIZES | _PICTURE)), folder)
