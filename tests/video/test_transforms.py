import pytest
import torch

from clep.errors import InputError
from clep.video import transforms


def ramp(height: int, width: int) -> torch.Tensor:
    """Return a picture whose pixels say where they are: row, column, 7."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.full_like(rows, 7)]).to(torch.uint8)


def place(picture: torch.Tensor) -> list[int]:
    return picture[:2, 0, 0].tolist()


@pytest.mark.parametrize(("size", "shape"), [((60, 40), (30, 20)), ((40, 61), (20, 30)), ((7, 7), (20, 20))])
def test_resize_short_side(size: tuple[int, int], shape: tuple[int, int]) -> None:
    clip = torch.randint(0, 256, (2, 5, 3, *size), dtype=torch.uint8)
    small = transforms.resize_short_side(clip, 20)
    assert small.shape == (2, 5, 3, *shape)
    assert small.dtype == torch.uint8
    floating = transforms.resize_short_side(clip.double(), 20)
    assert (floating - small).abs().max() <= 0.51


def test_resize_halves_to_the_mean_of_what_it_covers() -> None:
    flat = torch.full((3, 8, 8), 9, dtype=torch.uint8)
    assert transforms.resize(flat, 4, 4).eq(9).all()
    same = ramp(8, 8)
    assert transforms.resize(same, 8, 8) is same


def test_centre_crop_is_a_view() -> None:
    picture = ramp(10, 17)
    cropped = transforms.centre_crop(picture, 4)
    assert place(cropped) == [3, 6]
    assert cropped.shape == (3, 4, 4)
    assert cropped.untyped_storage().data_ptr() == picture.untyped_storage().data_ptr()


@pytest.mark.parametrize(("size", "places"), [((4, 11), [[0, 0], [0, 3], [0, 7]]), ((11, 6), [[0, 1], [3, 1], [7, 1]])])
def test_three_crop_along_the_long_side(size: tuple[int, int], places: list[list[int]]) -> None:
    crops = transforms.three_crop(ramp(*size).expand(2, 3, *size), 4)
    assert crops.shape == (3, 2, 3, 4, 4)
    assert [place(crop[1]) for crop in crops] == places


def test_ten_crop_and_mirror_images() -> None:
    crops = transforms.ten_crop(ramp(8, 10), 4)
    assert [place(crop) for crop in crops[:5]] == [[0, 0], [0, 6], [4, 0], [4, 6], [2, 3]]
    for crop, mirrored in zip(crops[:5], crops[5:], strict=True):
        assert [row[::-1] for row in crop[1].tolist()] == mirrored[1].tolist()


@pytest.mark.parametrize("crops", ["centre", "three", "ten"])
def test_crops_by_name(crops: str) -> None:
    found = transforms.crops_of(ramp(9, 9), crops, 5)
    assert found.shape == (transforms.CROPS[crops], 3, 5, 5)
    with pytest.raises(InputError, match="does not fit"):
        transforms.crops_of(ramp(9, 9), crops, 10)


def test_unknown_crops() -> None:
    with pytest.raises(InputError, match="choose one of centre, three, ten"):
        transforms.crops_of(ramp(9, 9), "five", 4)


def test_normalize_by_hand() -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    by_hand = torch.stack([(pixels[:, c].double() / 255 - mean[c]) / std[c] for c in range(3)], 1)
    out = transforms.normalize(pixels, mean, std)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), by_hand, atol=1e-5, rtol=1e-5)


def test_random_flip_is_one_choice_a_clip() -> None:
    clips = ramp(6, 6).expand(200, 3, 3, 6, 6)
    flipped = transforms.random_flip(clips, torch.Generator().manual_seed(1))
    mirrored = [bool(clip[0, 1, 0, 0] == 5) for clip in flipped]
    assert 70 < sum(mirrored) < 130
    for clip, is_mirrored in zip(flipped, mirrored, strict=True):
        assert torch.equal(clip, transforms.flip(clips[0]) if is_mirrored else clips[0])
    assert torch.equal(flipped, transforms.random_flip(clips, torch.Generator().manual_seed(1)))


def test_multi_scale_crop_is_one_choice_a_clip_and_seeded() -> None:
    clips = ramp(40, 60).expand(50, 2, 3, 40, 60)
    out = transforms.multi_scale_crop(clips, 20, torch.Generator().manual_seed(0))
    assert out.shape == (50, 2, 3, 20, 20)
    assert all(torch.equal(clip[0], clip[1]) for clip in out)
    heights = {int(clip[0, 0, -1, 0]) - int(clip[0, 0, 0, 0]) for clip in out}
    assert len(heights) >= 3
    assert max(heights) <= 40
    assert min(heights) >= 0.6 * 40 - 4
    assert out[:, :, 2].eq(7).all()
    assert torch.equal(out, transforms.multi_scale_crop(clips, 20, torch.Generator().manual_seed(0)))
    assert not torch.equal(out, transforms.multi_scale_crop(clips, 20, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("scales", [(), (0.0,), (1.5,)])
def test_multi_scale_crop_refuses(scales: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="scales"):
        transforms.multi_scale_crop(torch.zeros(1, 1, 3, 4, 4), 2, torch.Generator(), scales)
