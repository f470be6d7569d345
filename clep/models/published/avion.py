"""AVION (Zhao and Krähenbühl 2023, arXiv 2309.16669): joint space-time attention with CLIP's text side.

Files with fused attention and fused patch projection and plain ones. Follows zhaoyue-zephyrus/AVION, commit 31b00b6.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clep.errors import InputError
from clep.models.published.checkpoint import Checkpoint
from clep.models.published.lavila import TEXT_HEADS, clip_text
from clep.models.published.layers import Transformer
from clep.models.published.model import PublishedModel, VisionSizes, fit_weights, need, vision_sizes
from clep.models.published.pixels import LAVILA_MEAN, LAVILA_STD, PublishedClip
from clep.models.published.space_time import VISION_HEADS, resample_frames

# The fused layout's names and CLIP's.
_FUSED = {".attn.Wqkv.weight": ".attn.in_proj_weight", ".attn.Wqkv.bias": ".attn.in_proj_bias"}
_FUSED |= {f".mlp.fc1.{leaf}": f".mlp.c_fc.{leaf}" for leaf in ("weight", "bias")}
_FUSED |= {f".mlp.fc2.{leaf}": f".mlp.c_proj.{leaf}" for leaf in ("weight", "bias")}


class JointViT(nn.Module):
    """A vision transformer over the class token and the patches of all frames together."""

    def __init__(self, sizes: VisionSizes, frames: int, temporal: bool) -> None:
        super().__init__()
        width, patch = sizes.width, sizes.patch
        self.image_size, self.frames = sizes.image_size, frames
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((self.image_size // patch) ** 2 + 1, width))
        # A model that was trained on single frames has no temporal embedding.
        self.temporal_embedding = nn.Parameter(torch.empty(frames, width)) if temporal else None
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.transformer = Transformer(sizes.layers, width, sizes.heads, sizes.hidden, "gelu", eps=1e-6)

    def forward(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Encode normalised clips.

        Raises:
            InputError: another number of frames or another size than the embeddings'.
        """
        batch, frames, _, height, width = pixels.shape
        if (frames, height, width) != (self.frames, self.image_size, self.image_size):
            raise InputError(
                f"this model takes {self.frames} frames of {self.image_size}x{self.image_size} pixels, not {frames} of "
                f"{height}x{width}; load it with frames={frames} for another number of frames"
            )
        patches = self.conv1(pixels.flatten(0, 1)).flatten(2).transpose(1, 2).unflatten(0, (batch, frames))
        patches = patches + self.positional_embedding[1:]
        if self.temporal_embedding is not None:
            patches = patches + self.temporal_embedding[:, None]
        first = (self.class_embedding + self.positional_embedding[0]).expand(batch, 1, -1)
        x = self.transformer(self.ln_pre(torch.cat([first, patches.flatten(1, 2)], dim=1)))
        return self.ln_post(x[:, 0])


class Avion(PublishedModel):
    """Class token and end token, each projected by a matrix into 256 dimensions; unit length unless asked otherwise."""

    kind = "avion"

    def __init__(self, visual: JointViT, textual: nn.Module, dim: int) -> None:
        super().__init__()
        self.visual, self.textual = visual, textual
        self.dim, self.feature_dim = dim, len(visual.class_embedding)
        self.image_projection = nn.Parameter(torch.empty(self.feature_dim, dim))

    def video_features(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return the normalised class token."""
        return self.visual(pixels)

    def project_video(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Multiply with the image projection."""
        return features @ self.image_projection

    def embed_tokens(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch dim"]:
        """Return the projected end token."""
        return self.textual(token_ids)


def build(file: Checkpoint, sizes: Mapping[str, Any] | None, frames: int | None) -> Avion:
    """Build the model that an AVION checkpoint holds, in either layout."""
    need(file, ("visual.class_embedding", "visual.conv1.weight", "visual.image_projection"), "avion")
    need(file, ("textual.token_embedding.weight", "textual.text_projection", "logit_scale"), "avion")
    state = file.tensors
    for name in list(state):
        for fused, plain in _FUSED.items():
            if name.startswith("visual.") and name.endswith(fused):
                state[name.removesuffix(fused) + plain] = state.pop(name)
    patches = state["visual.conv1.weight"]
    if patches.ndim == 2:  # fused: one row of channels, rows and columns a feature
        patch = round((patches.shape[1] / 3) ** 0.5)
        state["visual.conv1.weight"] = patches = patches.reshape(-1, 3, patch, patch)
    state["image_projection"] = state.pop("visual.image_projection")
    temporal = state.get("visual.temporal_embedding")
    trained, dim = 1 if temporal is None else len(temporal), state["image_projection"].shape[1]
    vision = vision_sizes(
        file,
        sizes,
        blocks="visual.transformer.resblocks",
        mlp="mlp.c_fc.weight",
        patches=patches,
        positions=state["visual.positional_embedding"].shape[0] - 1,
        released_heads=VISION_HEADS,
        embed_dim=dim,
        frames=trained,
    )
    frames = frames or trained
    if temporal is None and frames > 1:
        raise InputError(f"{file.path} was trained on single frames and has no temporal embedding; use frames=1")
    if temporal is not None:
        state["visual.temporal_embedding"] = resample_frames(temporal.float()[None], frames, "linear")[0]
    scale = float(state.pop("logit_scale").double().exp())
    with torch.device("meta"):
        visual = JointViT(vision, frames, temporal=temporal is not None)
        textual, _ = clip_text(state, "textual.", sizes, "gelu", TEXT_HEADS)
        model = Avion(visual, textual, dim)
    fit_weights(model, state, file.path)
    model.logit_scale, model.usual_frames = scale, trained
    model.clip = PublishedClip(frames, "avion", vision.image_size, vision.image_size, LAVILA_MEAN, LAVILA_STD)
    return model
