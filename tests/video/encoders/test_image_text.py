import json
from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.video.encoders import ImageText
from tests.video.encoders import tiny_models


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_row_is_the_mean_of_unit_embeddings(tmp_path: Path, family: str) -> None:
    model = getattr(tiny_models, family)(tmp_path / family)
    encoder = ImageText(str(tmp_path / family))
    assert (encoder.name, encoder.frame_wise) == (family, True)
    assert (encoder.clip.frames, encoder.clip.crop_px, encoder.dim) == (4, 16, 12 if family == "clip" else 16)
    clips = torch.randn(2, 5, 3, 16, 16)
    with torch.no_grad():
        frames = [model.get_image_features(pixel_values=clip).pooler_output for clip in clips]
    expected = torch.stack([(rows / rows.norm(dim=1, keepdim=True)).mean(0) for rows in frames])
    torch.testing.assert_close(encoder(clips), expected, atol=1e-6, rtol=1e-5)
    one_by_one = torch.stack([encoder(clips[:, [k]]) for k in range(5)]).mean(0)
    torch.testing.assert_close(encoder(clips), one_by_one, atol=1e-6, rtol=1e-5)
    assert not any("text" in name for name, _ in encoder.named_parameters())


def test_colours_are_the_familys_or_the_files(tmp_path: Path) -> None:
    tiny_models.clip(tmp_path / "clip")
    tiny_models.siglip(tmp_path / "siglip")
    assert ImageText(str(tmp_path / "clip")).clip.mean == (0.48145466, 0.4578275, 0.40821073)
    assert ImageText(str(tmp_path / "siglip")).clip.std == (0.5, 0.5, 0.5)
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": {"shortest_edge": 16}}
    (tmp_path / "clip/preprocessor_config.json").write_text(json.dumps(said))
    clip = ImageText(str(tmp_path / "clip")).clip
    assert (clip.mean, clip.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_names_differ_where_rows_do(tmp_path: Path) -> None:
    tiny_models.clip(tmp_path / "clip")
    weights = str(tmp_path / "clip")
    names = [ImageText(weights, frames=frames).name for frames in (4, 8)] + [ImageText(weights, name="mine").name]
    assert names == ["clip", "clip-8x16", "mine"]


def test_models_that_do_not_fit(tmp_path: Path) -> None:
    tiny_models.timesformer(tmp_path)
    with pytest.raises(InputError, match="of type 'timesformer'; this encoder takes clip or siglip"):
        ImageText(str(tmp_path))
    with pytest.raises(InputError, match="openai/clip-none"):
        ImageText("openai/clip-none")
    tiny_models.clip(tmp_path / "clip")
    with pytest.raises(InputError, match="at least 1"):
        ImageText(str(tmp_path / "clip"), frames=0)
