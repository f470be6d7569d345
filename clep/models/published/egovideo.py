"""EgoVideo (Pei et al. 2024, arXiv 2406.18070): InternVideo2's vision transformer and the first layers of BERT-large.

Follows OpenGVLab/EgoVideo, commit 05d64bc, as released: the fused MLP, whose GELU is the tanh approximation.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from clep.errors import InputError
from clep.models.published.bert import bert
from clep.models.published.checkpoint import Checkpoint, count_layers
from clep.models.published.layers import Activation, merge_heads, split_heads
from clep.models.published.model import PublishedModel, VisionSizes, fit_weights, need, vision_sizes
from clep.models.published.pixels import IMAGENET_MEAN, IMAGENET_STD, PublishedClip
from clep.models.published.space_time import SpaceTimeMlp

VISION_HEADS = {1408: 16}
TEXT_LAYERS = 19  # of BERT-large's 24; the others are the fusion path
_UNUSED = ("visual.clip_decoder.", "visual.final_clip_decoder.", "visual.clip_pos_embed")


class RmsAttention(nn.Module):
    """Self-attention whose queries and keys are RMS-normalised over all heads together, before they are split."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "batch tokens features"]) -> Float[Tensor, "batch tokens features"]:
        """Let tokens attend to each other."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        stacked = torch.cat([self.q_norm(query), self.k_norm(key), value], dim=-1)
        return self.proj(merge_heads(functional.scaled_dot_product_attention(*split_heads(stacked, self.heads))))


class LayerScale(nn.Module):
    """A learned factor for each feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Scale features."""
        return x * self.gamma


class InternVideoBlock(nn.Module):
    """A pre-norm block with RMSNorm and layer scale."""

    def __init__(self, width: int, heads: int, hidden: int, act: Activation) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.attn, self.mlp = RmsAttention(width, heads), SpaceTimeMlp(width, hidden, act)
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)

    def forward(self, x: Float[Tensor, "batch tokens features"]) -> Float[Tensor, "batch tokens features"]:
        """Add scaled attention, then the scaled MLP."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class CrossAttention(nn.Module):
    """One query over all tokens, with biases apart from the weights as in the official files."""

    def __init__(self, width: int, heads: int, out_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias, self.k_bias, self.v_bias = (nn.Parameter(torch.empty(width)) for _ in range(3))
        self.proj = nn.Linear(width, out_dim)

    def forward(
        self, query: Float[Tensor, "batch one features"], key: Float[Tensor, "batch tokens features"], value: Tensor
    ) -> Float[Tensor, "batch one out"]:
        """Attend with one query and project the result."""
        projected = (self.q(query) + self.q_bias, self.k(key) + self.k_bias, self.v(value) + self.v_bias)
        parts = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        return self.proj(merge_heads(functional.scaled_dot_product_attention(*parts)))


class AttentionPool(nn.Module):
    """Attention pooling: the query is the normalised mean of all tokens, keys and values are all normalised tokens."""

    def __init__(self, width: int, heads: int, out_dim: int) -> None:
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(width, 1e-5) for _ in range(3))
        self.cross_attn = CrossAttention(width, heads, out_dim)

    def forward(self, x: Float[Tensor, "batch tokens features"]) -> Float[Tensor, "batch out"]:
        """Pool tokens."""
        query = self.norm1_q(x.mean(1, keepdim=True))
        return self.cross_attn(query, self.norm1_k(x), self.norm1_v(x))[:, 0]


class TubePatches(nn.Module):
    """Patches of frames to tokens, by one convolution over a single frame at a time."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch))

    def forward(self, clips: Float[Tensor, "batch 3 frames height width"]) -> Float[Tensor, "batch patches features"]:
        """Cut frames into patches and project them; time is the slowest index."""
        return self.proj(clips).flatten(2).transpose(1, 2)


class InternVideo(nn.Module):
    """InternVideo2's vision transformer, without a last norm, and the pool that projects into CLIP's space."""

    def __init__(self, sizes: VisionSizes, frames: int, pool_heads: int, out_dim: int, act: Activation) -> None:
        super().__init__()
        self.image_size, self.frames = sizes.image_size, frames
        self.cls_token = nn.Parameter(torch.empty(1, 1, sizes.width))
        positions = frames * (sizes.image_size // sizes.patch) ** 2 + 1
        self.pos_embed = nn.Parameter(torch.empty(1, positions, sizes.width))
        self.patch_embed = TubePatches(sizes.width, sizes.patch)
        self.blocks = nn.ModuleList(
            InternVideoBlock(sizes.width, sizes.heads, sizes.hidden, act) for _ in range(sizes.layers)
        )
        self.clip_projector = AttentionPool(sizes.width, pool_heads, out_dim)

    def forward(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch out"]:
        """Encode normalised clips.

        Raises:
            InputError: another number of frames or another size than the position embedding's.
        """
        if (pixels.shape[1], *pixels.shape[3:]) != (self.frames, self.image_size, self.image_size):
            raise InputError(
                f"this model takes {self.frames} frames of {self.image_size}x{self.image_size} pixels, not "
                f"{pixels.shape[1]} of {pixels.shape[3]}x{pixels.shape[4]}; the official loader takes no other"
            )
        patches = self.patch_embed(pixels.transpose(1, 2))
        x = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.clip_projector(x)


class EgoVideo(PublishedModel):
    """Pooled tokens and BERT's first token, each projected by a matrix into 512 dimensions. There is no logit scale."""

    kind = "egovideo"

    def __init__(self, visual: InternVideo, textual: nn.Module, feature_dim: int, text_width: int, dim: int) -> None:
        super().__init__()
        self.visual, self.textual = visual, textual
        self.dim, self.feature_dim = dim, feature_dim
        self.image_projection = nn.Parameter(torch.empty(feature_dim, dim))
        self.text_projection = nn.Parameter(torch.empty(text_width, dim))

    def video_features(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return the pooled tokens."""
        return self.visual(pixels)

    def project_video(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Multiply with the image projection."""
        return features @ self.image_projection

    def embed_tokens(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch dim"]:
        """Project BERT's first token."""
        return self.textual(input_ids=token_ids, attention_mask=mask).last_hidden_state[:, 0] @ self.text_projection


def build(
    file: Checkpoint, sizes: Mapping[str, Any] | None, frames: int | None, act: Activation = "gelu_tanh"
) -> EgoVideo:
    """Build the model that an EgoVideo checkpoint holds.

    `act="gelu"` is the official code's activation without the fused MLP, with which the weights were not released.
    """
    need(file, ("visual.clip_projector.cross_attn.q.weight", "image_projection", "text_projection"), "egovideo")
    state = file.tensors
    for name in list(state):
        if name.startswith(_UNUSED) or name == "logit_scale":
            del state[name]
    feature_dim, dim = state["image_projection"].shape
    tokens = state["visual.pos_embed"].shape[1] - 1
    trained = int((sizes or {}).get("frames", 4))  # one position embedding covers all frames
    patches = state["visual.patch_embed.proj.weight"]
    side = round((tokens / trained) ** 0.5)
    if trained * side**2 != tokens or frames not in (None, trained):
        size = side * patches.shape[-1]
        raise InputError(
            f"{file.path} has positions for {tokens} patches, which is {trained} frames of {size}x{size}; the official "
            "loader takes no other number of frames or size"
        )
    vision = vision_sizes(
        file,
        sizes,
        blocks="visual.blocks",
        mlp="mlp.fc1.weight",
        patches=patches,
        positions=side**2,
        released_heads=VISION_HEADS,
        embed_dim=dim,
        clip_embed_dim=feature_dim,
    )
    pool_heads = int((sizes or {}).get("attn_pool_heads", vision.heads))
    used = int((sizes or {}).get("text_layers_used", TEXT_LAYERS))
    with torch.device("meta"):
        visual = InternVideo(vision, trained, pool_heads, feature_dim, act)
        textual = bert(state, "textual.", sizes, min(used, count_layers(state, "textual.encoder.layer")))
        model = EgoVideo(visual, textual, feature_dim, state["text_projection"].shape[0], dim)
    fit_weights(model, state, file.path)
    model.usual_frames = trained
    model.clip = PublishedClip(trained, "lavila", vision.image_size, vision.image_size, IMAGENET_MEAN, IMAGENET_STD)
    return model
