"""Each config of `conf/encoder` names a class and only options that it has, and says what it is."""

import pytest
import torch
import yaml

from clep.config.build import build_typed
from clep.config.check import check_config
from clep.config.folder import config_folder
from clep.errors import InputError
from clep.models.published import KINDS
from clep.video.encoder import VideoEncoder
from clep.video.encoders.frozen import encoder_name

CONFIGS = sorted((config_folder() / "encoder").glob("*.yaml"))


def test_they_are_there() -> None:
    names = {"efficientnet_lite0", "image_text", "videomae", *KINDS}
    names |= {f"timesformer_{variant}" for variant in ("k400", "k600", "hr", "l")}
    assert names <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_built_or_says_what_it_lacks(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    config = yaml.safe_load(text)
    check_config(config, "encoder")
    try:
        encoder = build_typed(config)
    except InputError as error:
        assert str(config["weights"]) in str(error)  # noqa: PT017
    else:
        assert isinstance(encoder, VideoEncoder)
        clips = torch.zeros(1, encoder.clip.frames, 3, encoder.clip.crop_px, encoder.clip.crop_px)
        assert encoder(clips).shape == (1, encoder.dim)


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("facebook/timesformer-base-finetuned-k400", "timesformer-base-finetuned-k400"),
        ("someone/timesformer-base-finetuned-k400", "someone--timesformer-base-finetuned-k400"),
        ("timesformer", "timesformer"),
    ],
)
def test_hub_names(weights: str, name: str) -> None:
    assert encoder_name(weights, ("facebook",)) == name
