"""Boxes of a picture to rows: what an encoder sees at the places of each box, pooled."""

from typing import Literal

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from clep.video.encoder import VideoEncoder
from clep.video.roi_align import roi_align
from clep.video.transforms import resize, resize_short_side

Pool = Literal["max", "avg"]
Fit = Literal["squeeze", "whole"]


def fit(
    frames: Shaped[Tensor, "*batch 3 height width"], encoder: VideoEncoder, how: Fit
) -> Shaped[Tensor, "*batch 3 new_height new_width"]:
    """Resize whole frames to what an encoder takes; nothing is cut off, so boxes stay the same fractions of the frame.

    Args:
        frames: of any size.
        encoder: whose `clip.crop_px` is the side.
        how: "squeeze" into the square that the encoder was trained on, whatever the frame's shape; or "whole", which
            keeps the shape and makes the short side that long, for an encoder of `any_size`.
    """
    side = encoder.clip.crop_px
    return resize_short_side(frames, side) if how == "whole" else resize(frames, side, side)


def region_rows(
    features: Float[Tensor, "clips dim rows columns"],
    boxes: Float[Tensor, "boxes 4"],
    clip_of_box: Int64[Tensor, " boxes"],
    size: int = 7,
    samples: int = 2,
    pool: Pool = "max",
) -> Float[Tensor, "boxes dim"]:
    """Return a row for each box: RoIAlign over the features of its clip, then the maximum or mean over its cells.

    Args:
        features: of places, averaged over time as in the paper's RoI head.
        boxes: x1, y1, x2, y2 as fractions of the picture.
        clip_of_box: which clip each box lies in.
        size, samples: see `roi_align`.
        pool: over the cells of a box.
    """
    cells = roi_align(features, boxes, clip_of_box, size, samples).flatten(2)
    return torch.amax(cells, 2) if pool == "max" else cells.mean(2)
