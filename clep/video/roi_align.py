"""RoIAlign: what a feature map holds within boxes, sampled between its cells (He et al. 2017, arXiv 1703.06870)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from clep.errors import InputError


def roi_align(
    features: Float[Tensor, "maps channels rows columns"],
    boxes: Float[Tensor, "boxes 4"],
    map_of_box: Int64[Tensor, " boxes"],
    size: int = 7,
    samples: int = 2,
) -> Float[Tensor, "boxes channels size size"]:
    """Return a grid of `size` × `size` means for each box.

    A box is cut into equal cells, and a cell is the mean of `samples` × `samples` bilinear samples at the middles of
    its equal parts. The value of a cell of a map lies at its centre (half a cell from its corner: "aligned"), and the
    border goes on outside. `grid_sample` without aligned corners counts places in the same way, from edge to edge of
    the map, so that a fraction of the picture is a fraction of the map and no scale is needed.

    Args:
        features: maps that cover whole pictures.
        boxes: x1, y1, x2, y2 as fractions of the picture's width and height.
        map_of_box: which map each box lies in.
        size: cells of a box, down and across.
        samples: of a cell, down and across.

    Raises:
        InputError: a size or number of samples below 1.
    """
    if size < 1 or samples < 1:
        raise InputError(f"RoIAlign needs a size and samples of at least 1, not {size} and {samples}")
    boxes = boxes.to(features.dtype)
    count = size * samples
    across, down = (_middles(boxes[:, axis], boxes[:, axis + 2], count) for axis in (0, 1))
    place = torch.stack([across[:, None].expand(-1, count, -1), down[:, :, None].expand(-1, -1, count)], dim=-1)
    sampled = F.grid_sample(features[map_of_box], 2 * place - 1, "bilinear", "border", align_corners=False)
    return F.avg_pool2d(sampled, samples)


def _middles(
    start: Float[Tensor, " boxes"], end: Float[Tensor, " boxes"], count: int
) -> Float[Tensor, "boxes {count}"]:
    """Return the middles of `count` equal parts of each span."""
    middles = (torch.arange(count, device=start.device, dtype=start.dtype) + 0.5) / count
    return start[:, None] + (end - start)[:, None] * middles
