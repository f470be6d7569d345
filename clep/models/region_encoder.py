"""Regions of clips to features by an encoder that is trained: the short-term side of action detection."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clep.errors import InputError
from clep.video.encoder import VideoEncoder
from clep.video.regions import region_rows
from clep.video.transforms import normalize


class RegionEncoder(nn.Module):
    """Give each box of a batch the features of its place in its clip: RoIAlign over an encoder's places, pooled.

    A batch has `clips` uint8 `[clips, frames, 3, height, width]`, `boxes` `[batch, 4]` as fractions of the pictures,
    and `clip_of_box` `[batch]`.

    Args:
        encoder: with features of places; it is trained.
        checkpointing: keep only what enters each block of the encoder, and compute the rest again for the gradient.
        roi_size, roi_samples, region_pool: as of the region bank, see `clep.video.regions.region_rows`.

    Raises:
        InputError: the encoder has no blocks to recompute; when called, it has no features of places.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        checkpointing: bool = False,
        roi_size: int = 7,
        roi_samples: int = 2,
        region_pool: Literal["max", "avg"] = "max",
    ) -> None:
        super().__init__()
        self.encoder = encoder.unwrapped().requires_grad_(True).train()
        self.roi_size, self.roi_samples, self.region_pool = roi_size, roi_samples, region_pool
        if checkpointing:
            self.encoder.checkpoint_activations()

    @property
    def out_dim(self) -> int:
        """Numbers in a region's features."""
        return self.encoder.dim

    def config_of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config that builds this module without the encoder's original weights."""
        return {**given, "encoder": self.encoder.architecture()}

    def forward(self, batch: dict[str, Tensor]) -> Float[Tensor, "batch dim"]:
        """Return the features of each box.

        Raises:
            InputError: the batch has no clips.
        """
        if "clips" not in batch:
            raise InputError("the model's short-term side reads clips, and the data gives none: use short=clips")
        spec = self.encoder.clip
        pixels = normalize(batch["clips"], spec.mean, spec.std)
        features = self.encoder.spatial(pixels).mean(2)
        with torch.autocast(device_type=features.device.type, enabled=False):
            return region_rows(
                features.float(),
                batch["boxes"],
                batch["clip_of_box"],
                self.roi_size,
                self.roi_samples,
                self.region_pool,
            )
