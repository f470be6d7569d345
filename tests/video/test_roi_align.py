"""RoIAlign against loops over cells and samples that do what the definition says, in float64."""

import math

import pytest
import torch
from torch import Tensor

from clep.errors import InputError
from clep.video.regions import roi_align


def slow_roi_align(features: Tensor, boxes: Tensor, map_of_box: Tensor, size: int, samples: int) -> Tensor:
    """Sample every cell of every box on its own; a map's value lies half a cell from its corner."""
    rows, columns = features.shape[-2:]
    out = torch.zeros(len(boxes), features.shape[1], size, size, dtype=features.dtype)
    for number, (box, place) in enumerate(zip(boxes.tolist(), map_of_box.tolist(), strict=True)):
        left, top = box[0] * columns - 0.5, box[1] * rows - 0.5
        width, height = (box[2] - box[0]) * columns / size, (box[3] - box[1]) * rows / size
        for row in range(size):
            for column in range(size):
                total = torch.zeros(features.shape[1], dtype=features.dtype)
                for i in range(samples):
                    for j in range(samples):
                        y = top + (row + (i + 0.5) / samples) * height
                        x = left + (column + (j + 0.5) / samples) * width
                        total += bilinear(features[place], y, x)
                out[number, :, row, column] = total / samples**2
    return out


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    rows, columns = plane.shape[-2:]
    y, x = min(max(y, 0.0), rows - 1.0), min(max(x, 0.0), columns - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    down, across = y - top, x - left
    upper = (1 - across) * plane[:, top, left] + across * plane[:, top, right]
    lower = (1 - across) * plane[:, bottom, left] + across * plane[:, bottom, right]
    return (1 - down) * upper + down * lower


@pytest.mark.parametrize(("size", "samples"), [(1, 1), (2, 3), (7, 2)])
def test_agrees_with_loops_over_cells_and_samples(size: int, samples: int) -> None:
    features = torch.randn(3, 4, 5, 9, dtype=torch.float64)
    corner = torch.rand(11, 2, dtype=torch.float64) * 0.6
    boxes = torch.cat([corner, corner + 0.02 + torch.rand(11, 2, dtype=torch.float64) * 0.38], 1)
    boxes = torch.cat([boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.9, 0.8, 1.0, 1.0]], dtype=torch.float64)])
    map_of_box = torch.randint(3, (13,))
    found = roi_align(features, boxes, map_of_box, size, samples)
    torch.testing.assert_close(found, slow_roi_align(features, boxes, map_of_box, size, samples), rtol=0, atol=1e-12)


def test_a_box_of_the_whole_frame_at_the_size_of_the_map_is_the_map() -> None:
    features = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(roi_align(features, whole, torch.tensor([0]), 6, 1), features)


def test_a_ramp_is_its_value_at_the_middle_of_each_cell() -> None:
    columns = 8
    ramp = ((torch.arange(columns, dtype=torch.float64) + 0.5) / columns).expand(1, 1, 4, columns)
    box = torch.tensor([[0.25, 0.2, 0.75, 0.6]], dtype=torch.float64)
    found = roi_align(ramp, box, torch.tensor([0]), 2, 2)
    torch.testing.assert_close(found[0, 0], torch.tensor([[0.375, 0.625]] * 2, dtype=torch.float64))


def test_gradients_reach_the_map_and_no_box_gives_no_row() -> None:
    features = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.1, 0.2, 0.6, 0.9], [0.3, 0.1, 0.8, 0.5]], dtype=torch.float64)
    places = torch.tensor([1, 0])
    assert torch.autograd.gradcheck(lambda maps: roi_align(maps, boxes, places, 2, 2), (features,))
    assert roi_align(features, boxes[:0], places[:0], 3, 2).shape == (0, 3, 3, 3)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="not 0 and 2"):
        roi_align(torch.zeros(1, 1, 2, 2), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 0, 2)
