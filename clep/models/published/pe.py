"""PE-Core, Perception Encoder (Bolya et al. 2025, arXiv 2504.13181): frames one by one, CLIP's text side.

Follows facebookresearch/perception_models, commit 3e352cc.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from clep.errors import InputError
from clep.models.published.checkpoint import Checkpoint
from clep.models.published.lavila import clip_text
from clep.models.published.layers import Mlp, Transformer, merge_heads
from clep.models.published.model import FrameModel, VisionSizes, fit_weights, need, vision_sizes
from clep.models.published.pixels import PublishedClip

VISION_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1536: 16}
TEXT_HEADS = {512: 8, 1024: 16, 1280: 20}
POOL_HEADS = 8  # whatever the tower has
FRAMES = 8
_ROOT_TEXT_NAMES = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")


class PoolAttention(nn.Module):
    """One learned query over all tokens, with the parameter names of `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, query: Float[Tensor, "batch queries features"], x: Float[Tensor, "batch tokens features"]
    ) -> Float[Tensor, "batch queries features"]:
        """Let queries attend to tokens."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        projected = [functional.linear(part, w, b) for part, w, b in zip((query, x, x), weights, biases, strict=True)]
        parts = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected]
        return self.out_proj(merge_heads(functional.scaled_dot_product_attention(*parts)))


class Pool(nn.Module):
    """Attention pooling with a learned query (probe), then a residual MLP; the probe itself is not added."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.attn = PoolAttention(width, POOL_HEADS)
        self.layernorm = nn.LayerNorm(width)
        self.mlp = Mlp(width, hidden, "gelu")

    def forward(self, x: Float[Tensor, "batch tokens features"]) -> Float[Tensor, "batch features"]:
        """Pool tokens, the class token among them."""
        found = self.attn(self.probe.expand(len(x), -1, -1), x)
        return (found + self.mlp(self.layernorm(found)))[:, 0]


class PeVision(nn.Module):
    """A vision transformer with rotary positions in two dimensions beside learned ones; takes any size."""

    def __init__(self, sizes: VisionSizes, class_token: bool, pool_hidden: int) -> None:
        super().__init__()
        width = sizes.width
        self.patch, self.grid, self.heads = sizes.patch, sizes.image_size // sizes.patch, sizes.heads
        self.conv1 = nn.Conv2d(3, width, self.patch, self.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width)) if class_token else None
        self.positional_embedding = nn.Parameter(torch.empty(int(class_token) + self.grid**2, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(sizes.layers, width, sizes.heads, sizes.hidden, "gelu")
        self.attn_pool = Pool(width, pool_hidden)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features"]:
        """Encode normalised images.

        Raises:
            InputError: a side is no multiple of the patch size.
        """
        rows, columns = (side // self.patch for side in images.shape[-2:])
        if rows * self.patch != images.shape[-2] or columns * self.patch != images.shape[-1]:
            raise InputError(f"images of {tuple(images.shape[-2:])} pixels do not divide into patches of {self.patch}")
        x = self.conv1(images).flatten(2).transpose(1, 2)
        first = 0 if self.class_embedding is None else 1
        if self.class_embedding is not None:
            x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = self.ln_pre(x + self._positions(rows, columns))
        cosine, sine = self._angles(rows, columns, x)

        def rotate(part: Float[Tensor, "batch heads tokens dim"]) -> Float[Tensor, "batch heads tokens dim"]:
            patches = part[:, :, first:]
            even, odd = patches[..., ::2], patches[..., 1::2]
            turned = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], dim=-1).flatten(-2)
            return torch.cat([part[:, :, :first], turned], dim=2)

        return self.attn_pool(self.ln_post(self.transformer(x, rotate=rotate)))

    def _positions(self, rows: int, columns: int) -> Float[Tensor, "tokens features"]:
        if (rows, columns) == (self.grid, self.grid):
            return self.positional_embedding
        first = 0 if self.class_embedding is None else 1
        grid = self.positional_embedding[first:].T.unflatten(1, (self.grid, self.grid))[None]
        fitted = functional.interpolate(grid, (rows, columns), mode="bilinear", align_corners=False)
        return torch.cat([self.positional_embedding[:first], fitted[0].flatten(1).T])

    def _angles(self, rows: int, columns: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each patch's angles, `[patches, dim / 2]`: half of them for x, half for y.

        Positions start at 1 where there is a class token, which is not rotated, and at 0 where there is none.
        """
        quarter = self.conv1.out_channels // self.heads // 4
        steps = torch.arange(quarter, dtype=like.dtype, device=like.device)
        frequency = 10000.0 ** (-steps / quarter)
        begin = 0 if self.class_embedding is None else 1
        x = torch.arange(columns, dtype=like.dtype, device=like.device) + begin
        y = torch.arange(rows, dtype=like.dtype, device=like.device) + begin
        across = (x[:, None] * frequency).expand(rows, -1, -1)
        down = (y[:, None] * frequency)[:, None].expand(-1, columns, -1)
        angles = torch.cat([across, down], dim=-1).flatten(0, 1)
        return angles.cos(), angles.sin()


class PerceptionEncoder(FrameModel):
    """Frames through a vision transformer with attention pooling; see `FrameModel` for clips."""

    kind = "pe"

    def __init__(self, visual: PeVision, proj: tuple[int, int], textual: nn.Module) -> None:
        super().__init__()
        self.visual, self.textual = visual, textual
        self.feature_dim, self.dim = proj
        self.proj = nn.Parameter(torch.empty(*proj))

    def frame_features(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features"]:
        """Return the pooled features of images of any size."""
        return self.visual(images)

    def project_video(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Multiply with the projection."""
        return features @ self.proj

    def embed_tokens(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch dim"]:
        """Return the projected end token."""
        return self.textual(token_ids)


def build(file: Checkpoint, sizes: Mapping[str, Any] | None, frames: int | None) -> PerceptionEncoder:
    """Build the model that a PE-Core checkpoint holds."""
    need(file, ("visual.conv1.weight", "visual.attn_pool.probe", "visual.proj", "text_projection"), "pe")
    state = file.tensors
    for name in list(state):
        if name.startswith(_ROOT_TEXT_NAMES):
            state[f"textual.{name}"] = state.pop(name)
    state["proj"] = state.pop("visual.proj")
    class_token = "visual.class_embedding" in state
    vision = vision_sizes(
        file,
        sizes,
        blocks="visual.transformer.resblocks",
        mlp="mlp.c_fc.weight",
        patches=state["visual.conv1.weight"],
        positions=state["visual.positional_embedding"].shape[0] - int(class_token),
        released_heads=VISION_HEADS,
        embed_dim=state["proj"].shape[1],
    )
    scale = float(state.pop("logit_scale").double().exp())
    with torch.device("meta"):
        visual = PeVision(vision, class_token, state["visual.attn_pool.mlp.c_fc.weight"].shape[0])
        textual, _ = clip_text(state, "textual.", sizes, "gelu", TEXT_HEADS)
        model = PerceptionEncoder(visual, (state["proj"].shape[0], state["proj"].shape[1]), textual)
    fit_weights(model, state, file.path)
    model.logit_scale, model.usual_frames = scale, FRAMES
    half = (0.5, 0.5, 0.5)
    model.clip = PublishedClip(frames or FRAMES, "pe", vision.image_size, None, half, half, antialias=True)
    return model
