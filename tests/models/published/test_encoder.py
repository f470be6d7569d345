"""Banks of videos by published models, from the command line: frames, pixels and rows by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.models.published import PublishedEncoder, load_published
from clep.preprocess.__main__ import main
from clep.video import DenseWindows, encode_images, encode_video
from clep.video.spans import frame_indices
from tests.models.published import tiny_checkpoints as tiny
from tests.models.published.tiny_checkpoints import DIM, SIZES, WIDTH, args, save
from tests.video.made_videos import regular, write_video

MAKERS: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
    "lavila": tiny.lavila,
    "egovlp": tiny.egovlp,
    "pe": tiny.pe,
}


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder with a film of 50 random frames of 60x44 pixels at 30 frames per second."""
    folder = tmp_path / "films"
    folder.mkdir()
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (44, 60, 3), dtype=np.uint8) for _ in range(50)]
    write_video(folder / "a.mp4", regular(50, 30), pictures=pictures, codec="libx264", pixel_format="yuv444p")
    return folder


def checkpoint(folder: Path, kind: str) -> Path:
    """Write a tiny checkpoint with its sizes beside it, in FILE.json."""
    (folder / f"{kind}.json").write_text(json.dumps(SIZES))
    return save(folder / f"{kind}.pt", MAKERS[kind](), args=args())


def decoded(path: Path) -> torch.Tensor:
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="gbrp") for frame in file.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_bank_holds_the_embeddings_of_the_frames_that_the_rule_chooses(
    tmp_path: Path, films: Path, kind: str
) -> None:
    weights, out = checkpoint(tmp_path, kind), tmp_path / "bank.h5"
    command = ["videos", f"videos={films}", f"output={out}", f"encoder={kind}", f"encoder.weights={weights}"]
    assert main([*command, "dtype=float32", "device=cpu", "compute.processes=1"]) == 0
    bank = FeatureBank.open(out)
    model = load_published(kind, weights)
    assert bank.encoder == model.name
    assert model.name.startswith(f"{kind}-")
    frames = decoded(films / "a.mp4")
    clips = [
        model.video_transform(frames[start + frame_indices(model.clip.frame_rule, 0, 32, model.clip.frames)])
        for start in DenseWindows().starts(50)
    ]
    assert len(clips) == 3
    expected = model.encode_video(torch.stack(clips), normalize=kind == "pe")
    torch.testing.assert_close(bank.video_rows("a"), expected, atol=1e-4, rtol=1e-4)


def test_features_before_the_projection_and_other_frame_counts_have_other_names(tmp_path: Path) -> None:
    weights = str(checkpoint(tmp_path, "lavila"))
    joint, features, longer = (
        PublishedEncoder("lavila", weights, **options) for options in ({}, {"output": "features"}, {"frames": 8})
    )
    assert (joint.dim, features.dim) == (DIM, WIDTH)
    assert features.name == f"{joint.name}-features"
    assert longer.name == f"{joint.name}-8f"
    assert PublishedEncoder("lavila", weights, frames=4).name == joint.name  # its own number
    clip = torch.randn(1, 4, 3, 32, 32)
    projected = features(clip) @ load_published("lavila", weights).image_projection
    torch.testing.assert_close(projected, joint(clip))
    other = tmp_path / "other"
    other.mkdir()
    assert PublishedEncoder("lavila", str(checkpoint(other, "lavila"))).name != joint.name


def test_an_image_is_a_clip_of_equal_frames(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path, "lavila")
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, size, dtype=np.uint8) for size in ((50, 70, 3), (90, 41, 3), (33, 33, 3))]
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    model = load_published("lavila", weights)
    frames = [model.video_transform(torch.from_numpy(picture).permute(2, 0, 1)) for picture in pictures]
    expected = model.encode_video(torch.stack(frames)[:, None].expand(-1, 4, -1, -1, -1), normalize=False)
    rows = list(encode_images(paths, PublishedEncoder("lavila", str(weights)), batch_size=2))
    torch.testing.assert_close(torch.from_numpy(np.stack(rows)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("crops", ["three", "ten"])
def test_crops_are_averaged(tmp_path: Path, films: Path, crops: str) -> None:
    encoder = PublishedEncoder("lavila", str(checkpoint(tmp_path, "lavila")))
    rows = np.concatenate(list(encode_video(films / "a.mp4", encoder, DenseWindows(50, 50), crops=crops)))
    frames = decoded(films / "a.mp4")[frame_indices("lavila", 0, 50, 4)].float()
    small = torch.nn.functional.interpolate(frames, (32, 43), mode="bilinear")  # 32 * 60 / 44 = 43.6, cut off
    mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.clip.mean, encoder.clip.std))
    views = [small[..., left : left + 32] for left in (0, 6, 11)]  # 5.5 rounds to even
    if crops == "ten":  # there is no room above or below, so that upper and lower corners are the same
        corners = [views[0], views[2], views[0], views[2], views[1]]
        views = corners + [view.flip(-1) for view in corners]
    expected = torch.stack([encoder(((view / 255 - mean) / std)[None])[0] for view in views]).mean(0)
    torch.testing.assert_close(torch.from_numpy(rows), expected[None], atol=1e-4, rtol=1e-4)
    squashed = PublishedEncoder("pe", str(checkpoint(tmp_path, "pe")))
    with pytest.raises(InputError, match="crops=three: this model squashes whole frames"):
        squashed.transform(torch.zeros(3, 20, 30, dtype=torch.uint8), "three")
