import math

import pytest
import torch
from torch import nn

from clep.errors import InputError
from clep.losses import ClipLoss
from clep.models import DualEncoder, ProjectionHead, Tower

CONFIG = {
    "video": {"_target_": "clep.models.ProjectionHead", "in_dim": 6, "out_dim": 4},
    "text": {"_target_": "clep.models.ProjectionHead", "in_dim": 5, "out_dim": 4},
}


def make_batch(n=7):
    return {"video": torch.randn(n, 6), "text": torch.randn(n, 5), "moment": list(range(n))}


def test_embeddings_are_unit_float32_also_under_autocast():
    model, batch = DualEncoder.from_config(CONFIG), make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sides = model.encode_video(batch), model.encode_text(batch)
    for side in sides:
        assert side.dtype == torch.float32
        torch.testing.assert_close(side.norm(dim=1), torch.ones(7), rtol=1e-6, atol=1e-6)


def test_without_normalising_embeddings_are_the_towers_outputs():
    model, batch = DualEncoder.from_config({**CONFIG, "normalize": False}), make_batch()
    assert torch.equal(model.encode_text(batch), model.text(batch["text"]))
    assert not torch.allclose(model.encode_text(batch).norm(dim=1), torch.ones(7))


def test_several_rows_are_averaged_under_the_mask():
    model, rows = DualEncoder.from_config(CONFIG), torch.randn(2, 3, 6)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    expected = model.encode_video({"video": torch.stack([rows[0, :2].mean(0), rows[1, 0]])})
    torch.testing.assert_close(model.encode_video({"video": rows, "video_mask": mask}), expected)
    torch.testing.assert_close(model.encode_video({"video": rows}), model.encode_video({"video": rows.mean(1)}))


class LastRowAndContext(Tower):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(6, 4)

    def forward(self, batch):
        return self.project(batch["video"][:, -1]) + self.project(batch["context"])


def test_a_tower_reads_the_whole_batch():
    model = DualEncoder(LastRowAndContext(), nn.Linear(5, 4), normalize=False)
    batch = {"video": torch.randn(2, 3, 6), "context": torch.randn(2, 6)}
    expected = model.video.project(batch["video"][:, -1]) + model.video.project(batch["context"])
    assert torch.equal(model.encode_video(batch), expected)


def test_scale_is_exponentiated_unless_raw():
    clip = DualEncoder.from_config(CONFIG)
    raw = DualEncoder.from_config({**CONFIG, "scale_form": "raw"})
    assert clip.log_scale.ndim == 0
    assert clip.logit_scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
    assert raw.logit_scale.item() == pytest.approx(math.log(1 / 0.07), rel=1e-5)


@pytest.mark.parametrize("form", ["exp", "raw"])
def test_the_scale_is_clamped_to_0_and_ln_100(form):
    model = DualEncoder.from_config({**CONFIG, "scale_form": form})
    for value, clamped in ((9.0, math.log(100)), (-3.0, 0.0), (2.0, 2.0)):
        with torch.no_grad():
            model.log_scale.fill_(value)
        model.clamp_scale()
        assert model.log_scale.item() == pytest.approx(clamped)
    assert model.log_scale.requires_grad


def test_a_bias_is_optional_and_saved(tmp_path):
    assert DualEncoder.from_config(CONFIG).logit_bias is None
    model = DualEncoder.from_config({**CONFIG, "init_bias": -10})
    assert model.logit_bias.item() == -10
    assert "init_bias" not in DualEncoder.from_config(CONFIG).config
    assert model.config["init_bias"] == -10
    with torch.no_grad():
        model.logit_bias.fill_(-7.5)
    model.save_pretrained(tmp_path / "model")
    assert DualEncoder.from_pretrained(tmp_path / "model").logit_bias.item() == -7.5


def test_training_and_evaluation_use_the_same_embeddings():
    model, batch = DualEncoder.from_config(CONFIG), make_batch()
    trained = model.train()(batch)[0]
    assert torch.equal(trained, model.eval().encode_video(batch))


def test_training_lowers_the_loss():
    model, batch = DualEncoder.from_config(CONFIG), make_batch(16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = ClipLoss()(*model(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.clamp_scale()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert model.log_scale.grad is not None


def test_missing_keys_and_wrong_shapes_are_named():
    model = DualEncoder.from_config(CONFIG)
    with pytest.raises(ValueError, match="no 'text'; it has"):
        model.encode_text({"video": torch.randn(2, 6)})
    with pytest.raises(ValueError, match=r"got \(6,\)"):
        model.encode_video({"video": torch.randn(6)})
    with pytest.raises(InputError, match="in_dim"):
        model.encode_video({"video": torch.randn(2, 5)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_form": "log"}, "scale_form=log is unknown.*exp, raw"),
        ({"init_scale": 9.0}, "max_scale"),
        ({"init_bias": 1e999}, "JSON"),
        ({"init_bias": "low"}, "init_bias"),
        ({"normalise": True}, r"model.normalise: .*Did you mean 'normalize'"),
        ({"video": {**CONFIG["video"], "in_dims": 3}}, r"model.video.in_dims: .*Did you mean 'in_dim'"),
        ({"video": {"_target_": "os.system", "command": "true"}}, r"model.video._target_='os.system' is not allowed"),
        (
            {"text": {"_target_": "clep.files.write_json", "path": "x", "value": 1}},
            "model.text._target_='clep.files.write_json' is not allowed",
        ),
        ({"text": 3}, "model.text: expected a dict"),
        ({"_target_": "clep.models.ProjectionHead"}, "expected clep.models.DualEncoder"),
        ({"metadata": {"model": nn.Identity()}}, "JSON"),
    ],
)
def test_configs_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        DualEncoder.from_config({**CONFIG, **change})


def test_the_config_is_kept():
    config = {"_target_": "clep.models.DualEncoder", **CONFIG, "metadata": {"tag_style": "clean"}}
    model = DualEncoder.from_config(config)
    assert model.config == CONFIG
    assert model.metadata == {"tag_style": "clean"}
    assert isinstance(model.video, ProjectionHead)


def test_a_bank_of_another_encoder_is_refused():
    model = DualEncoder.from_config({**CONFIG, "metadata": {"bank_encoder": "omnivore"}})
    model.check_bank("omnivore")
    model.check_bank("")
    DualEncoder.from_config(CONFIG).check_bank("anything")
    with pytest.raises(InputError, match=r"'omnivore'.*'timesformer'"):
        model.check_bank("timesformer")
