"""EgoVLP (Lin et al. 2022, arXiv 2206.01670): a space-time transformer and DistilBERT.

Its own files and those that LaViLa's script converted. Follows showlab/EgoVLP, commit 928406c.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clep.models.published.bert import distilbert
from clep.models.published.checkpoint import count_layers
from clep.models.published.lavila import VISION_HEADS
from clep.models.published.model import PublishedModel, check_sizes, fit_weights, heads_of, need
from clep.models.published.pixels import IMAGENET_MEAN, IMAGENET_STD, PublishedClip
from clep.models.published.space_time import Resampling, SpaceTimeTransformer, resample_frames

# LaViLa's names for a converted EgoVLP, and EgoVLP's own.
_CONVERTED = {"visual.": "video_model.", "textual.": "text_model."}
_CONVERTED |= {"image_projection.": "vid_proj.", "text_projection.": "txt_proj."}


class EgoVLP(PublishedModel):
    """Class token through a linear layer; DistilBERT's first token through ReLU and a linear layer.

    Similarity is the cosine: embeddings have unit length unless asked otherwise. There is no logit scale.
    """

    kind = "egovlp"

    def __init__(
        self,
        video_model: SpaceTimeTransformer,
        text_model: nn.Module,
        vid_proj: nn.Module,
        txt_proj: nn.Module,
        dim: int,
    ) -> None:
        super().__init__()
        self.video_model, self.text_model = video_model, text_model
        self.vid_proj, self.txt_proj = vid_proj, txt_proj
        self.dim, self.feature_dim = dim, video_model.norm.normalized_shape[0]

    def video_features(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return the normalised class token."""
        return self.video_model(pixels)

    def project_video(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Apply the video projection."""
        return self.vid_proj(features)

    def embed_tokens(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch dim"]:
        """Apply the text projection to the first token."""
        return self.txt_proj(self.text_model(input_ids=token_ids, attention_mask=mask).last_hidden_state[:, 0])


def build(
    state: dict[str, Tensor],
    args: Mapping[str, Any],
    sizes: Mapping[str, Any] | None,
    frames: int | None,
    source: str | Path,
) -> EgoVLP:
    """Build the model that EgoVLP's own file, or its conversion by LaViLa, holds."""
    if "visual.cls_token" in state and "image_projection.0.weight" in state:
        return build_converted(state, sizes, frames, source)
    need(state, ("video_model.cls_token", "vid_proj.0.weight", "vid_proj.0.bias"), "egovlp", source)
    need(state, ("txt_proj.1.weight", "txt_proj.1.bias"), "egovlp", source)
    need(state, ("text_model.transformer.layer.0.ffn.lin1.weight",), "egovlp", source)
    dim = state["vid_proj.0.weight"].shape[0]
    with torch.device("meta"):
        visual = space_time(state, sizes, frames, 1e-6, "zeros", dim, source)
        textual = distilbert(state, "text_model.", sizes)
        model = EgoVLP(visual, textual, projection(state, "vid_proj"), projection(state, "txt_proj"), dim)
    fit_weights(model, state, source)
    model.clip = egovlp_clip(visual)
    return model


def build_converted(
    state: dict[str, Tensor], sizes: Mapping[str, Any] | None, frames: int | None, source: str | Path
) -> EgoVLP:
    """Build EgoVLP from LaViLa's conversion, which is evaluated with LaViLa's frames and pixels."""
    for name in list(state):
        for theirs, own in _CONVERTED.items():
            if name.startswith(theirs):
                state[own + name[len(theirs) :]] = state.pop(name)
    state.pop("logit_scale", None)
    model = build(state, {}, sizes, frames, source)
    size = model.clip.crop_px
    model.clip = PublishedClip(model.clip.frames, "lavila", size, size, IMAGENET_MEAN, IMAGENET_STD)
    return model


def space_time(
    state: dict[str, Tensor],
    sizes: Mapping[str, Any] | None,
    frames: int | None,
    eps: float,
    resampling: Resampling,
    dim: int,
    source: str | Path,
) -> SpaceTimeTransformer:
    """Return the video side for the weights below `video_model.`, whose temporal embedding is fitted to `frames`."""
    patches = state["video_model.patch_embed.proj.weight"]
    width, patch = patches.shape[0], patches.shape[-1]
    image_size = patch * round((state["video_model.pos_embed"].shape[1] - 1) ** 0.5)
    layers = count_layers(state, "video_model.blocks")
    temporal = state["video_model.temporal_embed"]
    check_sizes(
        sizes,
        {"image_size": image_size, "patch_size": patch, "vision_width": width, "vision_layers": layers}
        | {"embed_dim": dim, "frames": temporal.shape[1]},
        source,
    )
    frames = frames or temporal.shape[1]
    with torch.device("cpu"):
        state["video_model.temporal_embed"] = resample_frames(temporal.float(), frames, resampling)
    return SpaceTimeTransformer(
        image_size,
        patch,
        frames,
        width,
        layers,
        heads_of(width, sizes, "vision_heads", VISION_HEADS),
        state["video_model.blocks.0.mlp.fc1.weight"].shape[0],
        "gelu",
        eps=eps,
    )


def egovlp_clip(visual: SpaceTimeTransformer) -> PublishedClip:
    """Return EgoVLP's clip: short side and centre crop 256, then 224, not antialiased."""
    size = visual.image_size
    larger = round(size * 256 / 224)
    return PublishedClip(
        visual.frames,
        "egovlp",
        size,
        larger,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        crop_first_px=larger,
    )


def projection(state: Mapping[str, Tensor], name: str) -> nn.Sequential:
    """Return the projection that the weights below `name` belong to: linear layers, ReLU where a number is skipped."""
    numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith(f"{name}.")})
    layers: list[nn.Module] = []
    for number in range(max(numbers) + 1):
        if number in numbers:
            out_dim, in_dim = state[f"{name}.{number}.weight"].shape
            layers.append(nn.Linear(in_dim, out_dim, bias=f"{name}.{number}.bias" in state))
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
