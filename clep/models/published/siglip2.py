"""SigLIP 2 (Tschannen et al. 2025, arXiv 2502.14786) and CLIP (Radford et al. 2021), by transformers: frame by frame.

open_clip's files of SigLIP 2 are renamed to transformers' layout; open_clip, commit 89fb801.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clep.errors import InputError
from clep.models.published.checkpoint import Checkpoint, count_layers
from clep.models.published.model import FrameModel, check_sizes, fit_weights, heads_of, need
from clep.models.published.pixels import CLIP_MEAN, CLIP_STD, PublishedClip

SIGLIP_HEADS = {768: 12, 1024: 16, 1152: 16}
FRAMES = 8
_VISION, _TEXT = "model.vision_model.", "model.text_model."
# open_clip's names (timm's trunk, CLIP's text side) and transformers'.
_NAMES = {
    "visual.trunk.patch_embed.proj.": f"{_VISION}embeddings.patch_embedding.",
    "visual.trunk.norm.": f"{_VISION}post_layernorm.",
    "visual.trunk.attn_pool.latent": f"{_VISION}head.probe",
    "visual.trunk.attn_pool.proj.": f"{_VISION}head.attention.out_proj.",
    "visual.trunk.attn_pool.norm.": f"{_VISION}head.layernorm.",
    "visual.trunk.attn_pool.mlp.": f"{_VISION}head.mlp.",
    "text.token_embedding.": f"{_TEXT}embeddings.token_embedding.",
    "text.ln_final.": f"{_TEXT}final_layer_norm.",
    "text.text_projection.": f"{_TEXT}head.",
}
_VISION_BLOCK = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj", "mlp": "mlp"}
_TEXT_BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
_TEXT_BLOCK |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


class ImageTextModel(FrameModel):
    """CLIP or SigLIP (2) of transformers; see `FrameModel` for clips.

    Attributes:
        logit_bias: SigLIP's, added to the scaled cosine; None for CLIP.
    """

    logit_bias: float | None = None

    def __init__(self, kind: str, model: nn.Module, dim: int, feature_dim: int) -> None:
        super().__init__()
        self.kind, self.model = kind, model
        self.dim, self.feature_dim, self.usual_frames = dim, feature_dim, FRAMES

    def frame_features(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features"]:
        """Return the pooled features of the vision tower."""
        return self.model.vision_model(pixel_values=images).pooler_output  # type: ignore[operator]

    def project_video(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Apply CLIP's projection; SigLIP has none."""
        return self.model.visual_projection(features) if self.kind == "clip" else features  # type: ignore[operator]

    def embed_tokens(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch dim"]:
        """Embed sentences; SigLIP attends to padding too, so its mask is not used."""
        attended = None if self.logit_bias is not None else mask
        return _pooled(self.model.get_text_features(input_ids=token_ids, attention_mask=attended))  # type: ignore[operator]


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


def build(file: Checkpoint, sizes: Mapping[str, Any] | None, frames: int | None) -> ImageTextModel:
    """Build SigLIP 2 from open_clip's file; `sizes` is its `open_clip_config.json`, read beside the file by default."""
    from transformers import SiglipConfig, SiglipModel

    need(file, ("visual.trunk.attn_pool.latent", "text.text_projection.weight", "logit_bias"), "siglip2")
    state, source = file.tensors, file.path
    vision_cfg, text_cfg, pixels = _open_clip_config(sizes, source)
    patches = state["visual.trunk.patch_embed.proj.weight"]
    width, patch = patches.shape[0], patches.shape[-1]
    image_size = patch * round(state["visual.trunk.pos_embed"].shape[1] ** 0.5)
    layers = count_layers(state, "visual.trunk.blocks")
    vocabulary, text_width = state["text.token_embedding.weight"].shape
    kwargs = vision_cfg.get("timm_model_kwargs", {})
    check_sizes(kwargs, {"img_size": image_size, "patch_size": patch, "embed_dim": width, "depth": layers}, source)
    check_sizes(text_cfg, {"width": text_width, "vocab_size": vocabulary}, source)
    config = SiglipConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": state["visual.trunk.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": layers,
            "num_attention_heads": heads_of(width, kwargs, "num_heads", SIGLIP_HEADS),
            "image_size": image_size,
            "patch_size": patch,
            "hidden_act": "gelu",  # timm's, exact
            "layer_norm_eps": 1e-6,
        },
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text_width,
            "intermediate_size": state["text.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": count_layers(state, "text.transformer.resblocks"),
            "num_attention_heads": heads_of(text_width, text_cfg, "heads", SIGLIP_HEADS),
            "max_position_embeddings": state["text.positional_embedding"].shape[0],
            "projection_size": state["text.text_projection.weight"].shape[0],
            "hidden_act": "gelu_pytorch_tanh",
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 0,
            "layer_norm_eps": 1e-6,
        },
    )
    renamed = _as_transformers(state)
    scale, bias = float(renamed.pop("logit_scale").double().exp()), float(renamed.pop("logit_bias"))
    renamed["model.logit_scale"], renamed["model.logit_bias"] = torch.tensor([scale]).log(), torch.tensor([bias])
    dim = state["text.text_projection.weight"].shape[0]
    with torch.device("meta"):
        model = ImageTextModel("siglip2", SiglipModel(config), dim, width)
    fit_weights(model, renamed, source)
    model.logit_scale, model.logit_bias = scale, bias
    model.clip = PublishedClip(
        frames or FRAMES,
        "middle",
        image_size,
        None,
        tuple(pixels.get("mean", (0.5, 0.5, 0.5))),
        tuple(pixels.get("std", (0.5, 0.5, 0.5))),
        interpolation="bicubic",
        antialias=True,
    )
    return model


def _open_clip_config(
    sizes: Mapping[str, Any] | None, source: str | Path
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    path = Path(source).expanduser()
    beside = (path if path.is_dir() else path.parent) / "open_clip_config.json"
    if sizes is None and beside.is_file():
        sizes = json.loads(beside.read_text(encoding="utf-8"))
    model = dict((sizes or {}).get("model_cfg", {}))
    return model.get("vision_cfg", {}), model.get("text_cfg", {}), dict((sizes or {}).get("preprocess_cfg", {}))


def _as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename open_clip's tensors to transformers' names; stacked queries, keys and values are split, as views."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        block = name.split(".")
        if name.startswith("visual.trunk.blocks."):
            out |= _block(f"{_VISION}encoder.layers.{block[3]}.", ".".join(block[4:]), value, _VISION_BLOCK)
        elif name.startswith("text.transformer.resblocks."):
            out |= _block(f"{_TEXT}encoder.layers.{block[3]}.", ".".join(block[4:]), value, _TEXT_BLOCK)
        elif name == "visual.trunk.pos_embed":
            out[f"{_VISION}embeddings.position_embedding.weight"] = value[0]
        elif name == "text.positional_embedding":
            out[f"{_TEXT}embeddings.position_embedding.weight"] = value
        elif name.startswith("visual.trunk.attn_pool.q."):
            continue  # joined with keys and values below
        elif name.startswith("visual.trunk.attn_pool.kv."):
            leaf = block[-1]
            joined = torch.cat([state[f"visual.trunk.attn_pool.q.{leaf}"], value])
            out[f"{_VISION}head.attention.in_proj_{leaf}"] = joined
        else:
            start = next((start for start in _NAMES if name.startswith(start)), None)
            out[name if start is None else _NAMES[start] + name[len(start) :]] = value
    return out


def _block(prefix: str, name: str, value: Tensor, names: Mapping[str, str]) -> dict[str, Tensor]:
    if name in ("attn.qkv.weight", "attn.qkv.bias", "attn.in_proj_weight", "attn.in_proj_bias"):
        leaf = "weight" if name.endswith("weight") else "bias"
        return {
            f"{prefix}self_attn.{part}_proj.{leaf}": piece for part, piece in zip("qkv", value.chunk(3), strict=True)
        }
    for theirs, own in names.items():
        if name.startswith(f"{theirs}."):
            return {prefix + own + name[len(theirs) :]: value}
    return {prefix + name: value}


def load_transformers(kind: str, weights: str | Path, frames: int | None) -> ImageTextModel:
    """Load CLIP or SigLIP (2) from transformers' own layout: a folder or a hub name.

    Raises:
        InputError: there is no such model, or it is of another type.
    """
    from transformers import CLIPModel, SiglipModel

    from clep.video.encoders.hub import colours, load_model, model_config

    location, config = model_config(str(weights), ("clip",) if kind == "clip" else ("siglip", "siglip2"))
    if config.get("model_type") == "siglip2":
        raise InputError(f"{weights} is SigLIP 2 of flexible resolution (NaFlex); use one of fixed resolution")
    made = load_model(CLIPModel if kind == "clip" else SiglipModel, location)
    vision = made.config.vision_config
    dim = made.config.projection_dim if kind == "clip" else vision.hidden_size
    model = ImageTextModel(kind, made, dim, vision.hidden_size).requires_grad_(False).eval()
    model.logit_scale = float(made.logit_scale.double().exp())
    model.logit_bias = float(made.logit_bias) if kind != "clip" else None
    half = (0.5, 0.5, 0.5)
    mean, std = colours(location, (CLIP_MEAN, CLIP_STD) if kind == "clip" else (half, half))
    squash = kind != "clip"
    size = vision.image_size
    model.clip = PublishedClip(
        frames or FRAMES, "middle", size, None if squash else size, mean, std, interpolation="bicubic", antialias=True
    )
    return model
