"""A video tower that starts from pixels: what end-to-end training trains."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clep.errors import InputError
from clep.models.dual_encoder import Tower
from clep.models.pooling import project_present
from clep.models.temporal import TemporalAttention
from clep.models.trained_encoder import TrainedEncoder, train_stages
from clep.video.encoder import VideoEncoder
from clep.video.transforms import multi_scale_crop, random_flip, resize


class PixelTower(Tower):
    """Rows of pixels to frames, frames through a trained encoder, and its rows through temporal attention.

    Reads `video` `[b, t, in_dim]`, the rows of a bank of `clep.video.encoders.Pixels`, and `video_mask` `[b, t]`. In
    training each clip is cropped and mirrored at random, all of its frames alike; the random numbers are PyTorch's own,
    which a run seeds by the step.

    Args:
        in_dim: numbers in a row, `3 * side * side`.
        encoder: looks at each frame alone, or at clips of so many frames; shorter windows end with a still.
        out_dim: numbers in an embedding.
        depth, heads, dropout: of the attention, see `TemporalAttention`; clips of an encoder of clips are projected by
            one linear layer.
        scales, flip: of the random crop, see `multi_scale_crop`, and the chance to mirror a clip.
        frozen: so many of the encoder's first stages stay as they are; "all" trains the attention alone.
        checkpointing: keep only what enters each block of the encoder, and compute the rest again for the gradient.

    Raises:
        InputError: rows that are no squares of pixels, or smaller ones than the encoder takes; checkpointing of an
            encoder without blocks.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_dim: int,
        encoder: VideoEncoder,
        out_dim: int = 512,
        depth: int = 2,
        heads: int = 8,
        dropout: float | int = 0.0,
        scales: list[float | int] | tuple[float | int, ...] = (1.0, 0.875, 0.75),
        flip: float | int = 0.5,
        frozen: int | Literal["all"] = 0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        side = round((in_dim / 3) ** 0.5)
        if 3 * side**2 != in_dim:
            raise InputError(
                f"model.video.in_dim={in_dim}: rows of {in_dim} numbers are no squares of RGB pixels; a PixelTower "
                f"reads a bank that encoder=pixels made"
            )
        if isinstance(encoder, TrainedEncoder):
            encoder = encoder.unwrapped()
        if encoder.clip.crop_px > side:
            raise InputError(
                f"model.video.encoder takes pictures of {encoder.clip.crop_px} pixels, and those of the bank "
                f"have {side}; lower its crop_px, or make the bank with encoder.side_px={encoder.clip.crop_px}"
            )
        self.in_dim, self.out_dim, self.side = in_dim, out_dim, side
        self.encoder = encoder
        self._is_frozen = train_stages(encoder, frozen, checkpointing, "model.video")
        self.scales, self.flip = tuple(scales), float(flip)
        self.attention: nn.Module
        if encoder.frame_wise:
            self.attention = TemporalAttention(encoder.dim, out_dim, depth, heads, dropout=dropout)
        else:
            self.attention = nn.Linear(encoder.dim, out_dim)
        for name, values in (("mean", encoder.clip.mean), ("std", encoder.clip.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1), persistent=False)

    def saved_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config of this tower with the encoder's architecture in it, for which no weights are fetched."""
        return {**config, "encoder": self.encoder.architecture()}

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed the clips of a batch."""
        rows, mask = batch["video"], batch.get("video_mask")
        if rows.ndim != 3:
            raise InputError("a PixelTower reads the rows of a window: data.window.pool=rows")
        if mask is None:
            mask = torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device)
        clips = self._seen(rows.unflatten(2, (3, self.side, self.side)))
        clips = (clips - self.mean) / self.std
        if self.encoder.frame_wise:
            return self.attention(self._frames(clips, mask), mask)
        embedded = self.attention(self.encoder(_held(clips, mask, self.encoder.clip.frames)))
        return embedded.masked_fill(~mask.any(1, keepdim=True), 0)

    def train(self, mode: bool = True) -> "PixelTower":
        """Switch to training or evaluation; an encoder that is frozen whole stays in evaluation."""
        super().train(mode)
        if self._is_frozen:
            self.encoder.eval()
        return self

    def _seen(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch time 3 side side"]:
        """Cut out what the encoder looks at: something random in training, the whole picture else."""
        side = self.encoder.clip.crop_px
        if not self.training:
            return resize(clips, side, side)
        random = torch.default_generator
        return random_flip(multi_scale_crop(clips, side, random, self.scales), random, self.flip)

    def _frames(
        self, clips: Float[Tensor, "batch time 3 side side"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time dim"]:
        """Encode each frame that is there."""
        shape = clips.shape[2:]
        return project_present(
            lambda pixels: self.encoder(pixels.unflatten(1, (1, *shape))), clips.flatten(2), mask, every=False
        )


def _held(
    clips: Float[Tensor, "batch time 3 side side"], mask: Bool[Tensor, "batch time"], frames: int
) -> Float[Tensor, "batch frames 3 side side"]:
    """Make clips of `frames` frames: the last one that is there stays until the end."""
    if clips.shape[1] > frames:
        raise InputError(
            f"windows of {clips.shape[1]} rows do not fit the {frames} frames of model.video.encoder; set "
            f"data.window.max_rows={frames}"
        )
    last = mask.sum(1, keepdim=True).clamp(min=1) - 1
    place = torch.arange(frames, device=clips.device).minimum(last)
    return clips[torch.arange(len(clips), device=clips.device)[:, None], place]
