"""Video encoder with a linear layer on its output."""

from pathlib import Path
from typing import Any

import pytest
import torch

from clep.config.build import build_typed
from clep.config.targets import ANYTHING
from clep.errors import InputError
from clep.models import TrainedEncoder, VideoClassifier, load_model
from clep.video.encoder import ClipSpec, VideoEncoder
from clep.video.encoders import Pixels
from clep.video.transforms import normalize
from tests.colour_films import tiny_timesformer

NAMES = ["wash", "cut", "move"]


class ScaledColour(VideoEncoder):
    """An encoder of one's own, with a weight to train."""

    def __init__(self, name: str = "scaled-colour") -> None:
        super().__init__()
        self.name, self.dim, self.clip = name, 3, ClipSpec(2, 8, 8, (0.5,) * 3, (0.5,) * 3)
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.scale * pixels.mean((1, 3, 4))

    def architecture(self) -> dict[str, Any]:
        return {"_target_": f"{__name__}.ScaledColour", "name": self.name}


def classifier(folder: Path, **options: Any) -> VideoClassifier:
    return VideoClassifier.from_config({"encoder": tiny_timesformer(folder), "classes": NAMES, **options})


def some_pixels(*views: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, *views, 4, 3, 16, 16), dtype=torch.uint8)


def test_logits_are_those_of_the_class_token(tmp_path: Path) -> None:
    model = classifier(tmp_path / "t").eval()
    pixels = some_pixels()
    rows = model.encoder(normalize(pixels, (0.45,) * 3, (0.225,) * 3))
    torch.testing.assert_close(model({"pixels": pixels}), rows @ model.head.weight.T + model.head.bias)


def test_views_are_averaged_as_probabilities(tmp_path: Path) -> None:
    model = classifier(tmp_path / "t").eval()
    pixels = some_pixels(3)
    each = torch.stack([model({"pixels": pixels[:, view]}) for view in range(3)])
    torch.testing.assert_close(model({"pixels": pixels}).exp(), each.softmax(-1).mean(0))


def test_a_saved_model_loads_without_the_encoders_weights(tmp_path: Path) -> None:
    model = classifier(tmp_path / "t", checkpointing=True, frozen=1, metadata={"trained_on": "x"}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "run" / "model")
    (tmp_path / "t").rename(tmp_path / "gone")
    again = load_model(tmp_path / "run")
    pixels = some_pixels()
    assert torch.equal(again({"pixels": pixels}), model({"pixels": pixels}))
    assert (again.classes, again.metadata) == (NAMES, {"trained_on": "x"})

    encoder = TrainedEncoder(str(tmp_path / "run"))
    clip = torch.randn(2, 4, 3, 16, 16)
    assert torch.equal(encoder(clip), model.encoder(clip))
    assert (encoder.clip, encoder.dim, encoder.frame_wise) == (model.encoder.clip, 16, False)
    assert encoder.name.startswith("t-trained-")
    assert TrainedEncoder(str(tmp_path / "run" / "model")).name == encoder.name
    assert TrainedEncoder(str(tmp_path / "run"), name="mine").name == "mine"
    with torch.no_grad():
        model.encoder.model.encoder.layer[0].output.dense.bias[0] += 1e-3
    model.save_pretrained(tmp_path / "other")
    assert TrainedEncoder(str(tmp_path / "other")).name != encoder.name

    further = VideoClassifier.from_config(
        {"encoder": {"_target_": "clep.models.TrainedEncoder", "weights": str(tmp_path / "run")}, "classes": ["a", "b"]}
    )
    assert further.encoder.name == encoder.name
    assert torch.equal(further.encoder.eval()(clip), encoder(clip))
    assert all(parameter.requires_grad for parameter in further.encoder.parameters())


@pytest.mark.parametrize(("frozen", "still"), [(0, 0), (1, 1), (2, 2), ("all", 3)])
def test_frozen_stages_keep_their_weights(tmp_path: Path, frozen: Any, still: int) -> None:
    model = classifier(tmp_path / "t", frozen=frozen)
    model({"pixels": some_pixels()}).sum().backward()
    stages = model.encoder.stages()
    for number, stage in enumerate(stages):
        parameters = [p for n, p in model.encoder.named_parameters() if any(f"{n}.".startswith(f"{s}.") for s in stage)]
        assert parameters
        assert all((parameter.grad is None) == (number < still) for parameter in parameters)
    assert model.head.weight.grad is not None
    assert model.encoder.training == (frozen != "all")


def test_a_model_without_a_video_encoder_is_refused(tmp_path: Path) -> None:
    from clep.models import DualEncoder

    towers = {side: {"_target_": "clep.models.ProjectionHead", "in_dim": 3, "out_dim": 2} for side in ("video", "text")}
    DualEncoder.from_config(towers).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"a model on frozen features, without a video encoder"):
        TrainedEncoder(str(tmp_path))
    with pytest.raises(InputError, match=r"nothing/config\.json does not exist"):
        TrainedEncoder(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen": "all", "checkpointing": True}, r"model\.checkpointing=true .* model\.frozen=all"),
        ({"frozen": 3}, r"model\.frozen=3: .* at most 2 of 3"),
        ({"frozen": -1}, r"model\.frozen=-1"),
        ({"classes": ["a"]}, r"at least two classes"),
        ({"dropout": 1.0}, r"model\.dropout=1\.0"),
        ({"colour": 1}, r"model\.colour: .*has no option"),
        ({"encoder": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}}, r"is not a video encoder"),
    ],
)
def test_contradictory_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier(tmp_path / "t", **options)


def test_an_encoder_without_blocks_is_not_checkpointed_nor_frozen_in_part() -> None:
    with pytest.raises(InputError, match=r"Pixels has no blocks"):
        VideoClassifier(Pixels(8), NAMES, checkpointing=True)
    with pytest.raises(InputError, match=r"defines no stages"):
        VideoClassifier(Pixels(8), NAMES, frozen=1)


def test_a_trained_encoder_of_ones_own_is_built_only_if_it_is_allowed(tmp_path: Path) -> None:
    config = {"encoder": {"_target_": f"{__name__}.ScaledColour"}, "classes": NAMES}
    model = VideoClassifier.from_config(config, ANYTHING).eval()
    with torch.no_grad():
        model.encoder.scale.copy_(torch.tensor([1.0, 2.0, 3.0]))
    model.save_pretrained(tmp_path / "run" / "model")
    with pytest.raises(InputError, match=r"ScaledColour' is not allowed.*allow=\[tests\]"):
        TrainedEncoder(str(tmp_path / "run"))
    encoder = build_typed(
        {"_target_": "clep.models.TrainedEncoder", "weights": str(tmp_path / "run"), "allow": ["tests."]}
    )
    clips = torch.randn(2, 2, 3, 8, 8)
    torch.testing.assert_close(encoder(clips), clips.mean((1, 3, 4)) * torch.tensor([1.0, 2.0, 3.0]))
    assert encoder.name.startswith("scaled-colour-trained-")
