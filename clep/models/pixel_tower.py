"""Video tower on pixels, for end-to-end training."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clep.config.requirements import Need
from clep.errors import InputError
from clep.models.dual_encoder import Tower
from clep.models.pooling import project_present
from clep.models.temporal import TemporalAttention
from clep.models.trained_encoder import TrainedEncoder, train_stages
from clep.video.encoder import VideoEncoder
from clep.video.transforms import multi_scale_crop, random_flip, resize


class PixelTower(Tower):
    """Trainable video encoder on frames, followed by temporal attention.

    Reads `video` `[b, t, in_dim]`, rows of a bank of `clep.video.encoders.Pixels`, and `video_mask` `[b, t]`. In
    training, clips are cropped and flipped at random, the same for all frames of a clip, with PyTorch's global
    generator, which a run seeds at each step.

    Args:
        in_dim: dimension of a row, `3 * side * side`.
        encoder: encodes single frames, or clips of a fixed number of frames, to which shorter windows are padded by
            repeating the last frame.
        out_dim: dimension of the embedding.
        depth, heads, dropout: options of the attention, see `TemporalAttention`. The output of a clip encoder is
            projected by one linear layer instead.
        scales: relative sides of the random crop, see `multi_scale_crop`.
        flip: probability of a horizontal flip.
        frozen: number of the encoder's first stages that are not trained; "all" trains only the attention.
        checkpointing: activation checkpointing of the encoder's blocks: less memory, a second forward pass.

    Raises:
        InputError: `in_dim` is not that of square RGB frames, the frames are smaller than the encoder's input, or the
            encoder has no blocks to checkpoint.

    Examples:
        >>> import torch
        >>> from clep.models import PixelTower
        >>> from clep.video.encoders import TimeSformer
        >>> encoder = TimeSformer("timesformer", width=None, depth=None, heads=None)  # frames of 16 x 16
        >>> tower = PixelTower(in_dim=3 * 20 * 20, encoder=encoder, out_dim=8)
        >>> frames = torch.randint(256, (2, 4, 1200)).float()  # rows of a bank of `Pixels(side_px=20)`
        >>> tower({"video": frames, "video_mask": torch.ones(2, 4, dtype=torch.bool)}).shape
        torch.Size([2, 8])
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
                f"model.video.in_dim={in_dim} is not the size of a square RGB frame; a PixelTower needs a bank of "
                f"encoder=pixels"
            )
        if isinstance(encoder, TrainedEncoder):
            encoder = encoder.unwrapped()
        if encoder.clip.crop_px > side:
            raise InputError(
                f"model.video.encoder takes frames of {encoder.clip.crop_px} pixels, but the bank has {side}; "
                f"lower its crop_px, or make the bank with encoder.side_px={encoder.clip.crop_px}"
            )
        self.in_dim, self.out_dim, self.side = in_dim, out_dim, side
        self.encoder = encoder
        self._is_frozen = train_stages(encoder, frozen, checkpointing, "model.video")
        self.scales, self.flip = tuple(scales), float(flip)
        self.attention: nn.Module
        if encoder.frame_wise:
            self.attention = TemporalAttention(encoder.dim, out_dim, depth, heads, "attention", dropout=dropout)
        else:
            self.attention = nn.Linear(encoder.dim, out_dim)
        for name, values in (("mean", encoder.clip.mean), ("std", encoder.clip.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1), persistent=False)

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this tower needs: the rows of windows, which are frames."""
        return {"data.window.pool": Need("rows", "attention to the frames of a window in their order")}

    def saved_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config with the encoder's architecture, from which it is built without downloading weights."""
        return {**config, "encoder": self.encoder.architecture()}

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Return the embeddings of the clips."""
        rows, mask = batch["video"], batch.get("video_mask")
        if rows.ndim != 3:
            raise InputError("a PixelTower needs the rows of a window; set data.window.pool=rows")
        if mask is None:
            mask = torch.ones(rows.shape[:2], dtype=torch.bool, device=rows.device)
        clips = self._augment(rows.unflatten(2, (3, self.side, self.side)))
        clips = (clips - self.mean) / self.std
        if self.encoder.frame_wise:
            return self.attention(self._frames(clips, mask), mask)
        embedded = self.attention(self.encoder(_pad_clips(clips, mask, self.encoder.clip.frames)))
        return embedded.masked_fill(~mask.any(1, keepdim=True), 0)

    def train(self, mode: bool = True) -> "PixelTower":
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self._is_frozen:
            self.encoder.eval()
        return self

    def _augment(self, clips: Float[Tensor, "batch time 3 height width"]) -> Float[Tensor, "batch time 3 side side"]:
        """Return frames of the encoder's size: random crops and flips in training, resized frames otherwise."""
        side = self.encoder.clip.crop_px
        if not self.training:
            return resize(clips, side, side)
        random = torch.default_generator
        return random_flip(multi_scale_crop(clips, side, random, self.scales), random, self.flip)

    def _frames(
        self, clips: Float[Tensor, "batch time 3 side side"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time dim"]:
        """Encode each frame, except padding."""
        shape = clips.shape[2:]
        return project_present(
            lambda pixels: self.encoder(pixels.unflatten(1, (1, *shape))), clips.flatten(2), mask, every=False
        )


def _pad_clips(
    clips: Float[Tensor, "batch time 3 side side"], mask: Bool[Tensor, "batch time"], frames: int
) -> Float[Tensor, "batch frames 3 side side"]:
    """Pad clips to `frames` frames by repeating their last frame."""
    if clips.shape[1] > frames:
        raise InputError(
            f"windows of {clips.shape[1]} rows exceed the {frames} frames of model.video.encoder; set "
            f"data.window.max_rows={frames}"
        )
    last = mask.sum(1, keepdim=True).clamp(min=1) - 1
    index = torch.arange(frames, device=clips.device).minimum(last)
    return clips[torch.arange(len(clips), device=clips.device)[:, None], index]
