"""The space-time transformer of "Frozen in Time" (Bain et al. 2021), the video side of LaViLa, EgoVLP and EgoVLPv2."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from clep.errors import InputError
from clep.models.published.checkpoint import Checkpoint
from clep.models.published.layers import Activation, activation
from clep.models.published.model import VisionSizes, vision_sizes

Resampling = Literal["linear", "linear_aligned", "zeros"]
VISION_HEADS = {768: 12, 1024: 16}


class DividedAttention(nn.Module):
    """Self-attention over time or over space, of space-time transformers.

    A patch attends to the class token and to the patches at its position (time) or of its frame (space); the class
    token attends to every token.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch tokens features"], frames: int, over: Literal["time", "space"]
    ) -> Float[Tensor, "batch tokens features"]:
        """Attend over the frames at each position, or over the positions of each frame; time is the slower index."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        first = functional.scaled_dot_product_attention(query[:, :, :1], key, value)
        grouped = [_group(part[:, :, 1:], frames, over) for part in (query, key, value)]
        groups = grouped[0].shape[2]
        with_class = [
            torch.cat([part[:, :, None, :1].expand(-1, -1, groups, -1, -1), patches], dim=3)
            for part, patches in zip((key, value), grouped[1:], strict=True)
        ]
        found = functional.scaled_dot_product_attention(grouped[0], with_class[0], with_class[1])
        patches = _ungroup(found, over)
        return self.proj(torch.cat([first, patches], dim=2).transpose(1, 2).flatten(2))


def _group(x: Float[Tensor, "batch heads patches dim"], frames: int, over: str) -> Tensor:
    by_frame = x.unflatten(2, (frames, -1))
    return by_frame if over == "space" else by_frame.transpose(2, 3)


def _ungroup(x: Float[Tensor, "batch heads groups members dim"], over: str) -> Tensor:
    return (x if over == "space" else x.transpose(2, 3)).flatten(2, 3)


class SpaceTimeMlp(nn.Module):
    """Two linear layers, named `fc1` and `fc2` as in the official files."""

    def __init__(self, width: int, hidden: int, act: Activation) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self._act = activation(act)

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Transform each token."""
        return self.fc2(self._act(self.fc1(x)))


class SpaceTimeBlock(nn.Module):
    """Attention over time, then over space, then the MLP.

    The output `t` of temporal attention is an input of spatial attention and *not* a part of the residual sum: with `s`
    the output of spatial attention, the block continues with `x + s`, not `x + t + s`.
    """

    def __init__(self, width: int, heads: int, hidden: int, act: Activation, eps: float, gated: bool) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps) for _ in range(3))
        self.attn, self.timeattn = DividedAttention(width, heads), DividedAttention(width, heads)
        self.mlp = SpaceTimeMlp(width, hidden, act)
        self.alpha_timeattn = nn.Parameter(torch.empty(())) if gated else None

    def forward(self, x: Float[Tensor, "batch tokens features"], frames: int) -> Float[Tensor, "batch tokens features"]:
        """Transform the tokens of a clip."""
        t = self.timeattn(self.norm3(x), frames, "time")
        if self.alpha_timeattn is not None:
            t = torch.tanh(self.alpha_timeattn) * t
        y = x + self.attn(self.norm1(x + t), frames, "space")
        return y + self.mlp(self.norm2(y))


class PatchEmbed(nn.Module):
    """Patches of frames to tokens, by one convolution named `proj`."""

    def __init__(self, width: int, patch: int, bias: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch, bias=bias)

    def forward(self, frames: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames patches features"]:
        """Cut each frame into patches and project them, row by row."""
        return self.proj(frames).flatten(2).transpose(1, 2)


class SpaceTimeTransformer(nn.Module):
    """Clips to the normalised class token.

    Args:
        sizes: of the transformer.
        frames: of a clip.
        act: "quick_gelu" in LaViLa, "gelu" in EgoVLP.
        eps: of the blocks' and the last norm.
        ln_pre: a norm before the blocks (LaViLa), with eps 1e-5.
        patch_bias: the patch convolution has a bias (EgoVLP).
        gated: temporal attention has a learned gate (LaViLa's gated cross-attention models).
    """

    def __init__(
        self,
        sizes: VisionSizes,
        frames: int,
        act: Activation,
        eps: float = 1e-6,
        ln_pre: bool = False,
        patch_bias: bool = True,
        gated: bool = False,
    ) -> None:
        super().__init__()
        width = sizes.width
        self.image_size, self.frames = sizes.image_size, frames
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, (sizes.image_size // sizes.patch) ** 2 + 1, width))
        self.temporal_embed = nn.Parameter(torch.empty(1, frames, width))
        self.patch_embed = PatchEmbed(width, sizes.patch, patch_bias)
        self.ln_pre = nn.LayerNorm(width) if ln_pre else nn.Identity()
        self.blocks = nn.ModuleList(
            SpaceTimeBlock(width, sizes.heads, sizes.hidden, act, eps, gated) for _ in range(sizes.layers)
        )
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Encode normalised clips.

        Raises:
            InputError: the clips have another number of frames or another size than the position embeddings.
        """
        batch, frames, _, height, width = pixels.shape
        if (frames, height, width) != (self.frames, self.image_size, self.image_size):
            raise InputError(
                f"this model takes {self.frames} frames of {self.image_size}x{self.image_size} pixels, not {frames} of "
                f"{height}x{width}; load it with frames={frames} for another number of frames"
            )
        patches = self.patch_embed(pixels.flatten(0, 1)).unflatten(0, (batch, frames))
        # Time is the slower index of the tokens; every patch has the embedding of its position and of its frame.
        patches = patches + self.pos_embed[:, None, 1:] + self.temporal_embed[:, :, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        x = self.ln_pre(torch.cat([first, patches.flatten(1, 2)], dim=1))
        for block in self.blocks:
            x = block(x, frames)
        return self.norm(x)[:, 0]


def resample_frames(
    temporal: Float[Tensor, "one old features"], frames: int, how: Resampling
) -> Float[Tensor, "one new features"]:
    """Fit a temporal embedding to another number of frames as the official loaders do.

    Fewer frames take the first ones. More frames are interpolated ("linear", corners not aligned: LaViLa, AVION;
    "linear_aligned": EgoVLPv2) or the new ones are zero ("zeros": EgoVLP's default).
    """
    old = temporal.shape[1]
    if frames <= old:
        return temporal[:, :frames]
    if how == "zeros":
        return torch.cat([temporal, temporal.new_zeros(1, frames - old, temporal.shape[2])], dim=1)
    along_time = temporal.transpose(1, 2)
    return functional.interpolate(
        along_time, size=frames, mode="linear", align_corners=how == "linear_aligned"
    ).transpose(1, 2)


def read_space_time(
    file: Checkpoint, sizes: Mapping[str, Any] | None, prefix: str, frames: int | None, resampling: Resampling, dim: int
) -> tuple[VisionSizes, int]:
    """Read the sizes of a space-time transformer from its weights, and fit its temporal embedding to the frames.

    Args:
        file: the checkpoint, whose temporal embedding is replaced.
        sizes: sizes given by the user; see `load_published`.
        prefix: of the names of the weights, without a dot.
        frames: of a clip; None for those of training.
        resampling: how another number of frames is reached.
        dim: dimension of the joint space.

    Returns:
        The sizes, and the frames of a clip.
    """
    state, name = file.tensors, f"{prefix}.temporal_embed"
    temporal = state[name]
    vision = vision_sizes(
        file,
        sizes,
        blocks=f"{prefix}.blocks",
        mlp="mlp.fc1.weight",
        patches=state[f"{prefix}.patch_embed.proj.weight"],
        positions=state[f"{prefix}.pos_embed"].shape[1] - 1,
        released_heads=VISION_HEADS,
        embed_dim=dim,
        frames=temporal.shape[1],
    )
    frames = frames or temporal.shape[1]
    state[name] = resample_frames(temporal.float(), frames, resampling)
    return vision, frames
