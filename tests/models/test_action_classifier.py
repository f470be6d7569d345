"""Action classifier: a linear layer on `[S, FBO(S, L)]`, saved with its encoder if it has one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from clep.errors import InputError
from clep.models import ActionClassifier, load_model

BATCH = {
    "video": torch.randn(3, 4),
    "context": torch.randn(3, 5, 6),
    "context_mask": torch.tensor([[True] * 5, [True, True, False, False, False], [False] * 5]),
}


def made(operator: str = "FBOAvg", **options: Any) -> ActionClassifier:
    sizes = {} if operator == "FBONone" else {"latent_dim": 8}
    described = {"_target_": f"clep.models.{operator}", "in_dim": 4, "context_dim": 6, **sizes}
    return ActionClassifier.from_config({"in_dim": 4, "operator": described, "classes": [12, 80], **options})


@pytest.mark.parametrize("operator", ["FBONone", "FBOAvg", "FBOMax", "FBONonLocal"])
def test_a_linear_layer_over_both_sides(operator: str) -> None:
    model = made(operator).eval()
    with torch.no_grad():
        logits = model(BATCH)
        found = model.operator(BATCH["video"], BATCH["context"], BATCH["context_mask"])
        by_hand = torch.cat([BATCH["video"], found], 1) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(logits, by_hand)
    assert logits.shape == (3, 2)
    assert logits.isfinite().all()  # the last one has no context


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = made("FBONonLocal", metadata={"bank_encoder": "tiny", "context": {"window_s": 10}}).eval()
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path)
    assert isinstance(again, ActionClassifier)
    assert again.classes == [12, 80]
    assert again.metadata == model.metadata
    torch.testing.assert_close(again(BATCH), model(BATCH), rtol=0, atol=0)
    with pytest.raises(InputError, match="trained on features of 'tiny', but this bank holds features of 'other'"):
        again.check_bank("other")


def test_with_a_short_term_encoder(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    encoder = {"_target_": "clep.video.encoders.EfficientNetLite0", "frames": 2, "crop_px": 64}
    short_term = {"_target_": "clep.models.RegionEncoder", "encoder": encoder}
    model = made("FBOAvg", in_dim=None, short_term=short_term)
    assert model.in_dim == model.operator.in_dim == 1280
    clips = torch.randint(0, 255, (2, 2, 3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
    batch = BATCH | {"clips": clips, "boxes": boxes, "clip_of_box": torch.tensor([0, 0, 1])}
    model(batch).sum().backward()
    trained = [parameter for parameter in model.short_term.parameters() if parameter.grad is not None]
    assert len(trained) == len(list(model.short_term.parameters()))
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    torch.testing.assert_close(again(batch), model.eval()(batch))
    with pytest.raises(InputError, match="reads clips, but the batch has none; use short_term=clips"):
        model(BATCH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": []}, "at least one action, without duplicates"),
        ({"classes": [3, 3]}, "without duplicates"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"in_dim": 7}, "operator.in_dim=4, but the short-term features have dimension 7"),
        ({"drop": 0.1}, "model.drop: .*Did you mean .dropout"),
        ({"short_term": {"_target_": "os.system"}}, r"model\.short_term\._target_='os\.system' is not allowed"),
        ({"short_term": {"_target_": "torch.nn.Identity"}}, r"model\.short_term: Identity is not a RegionEncoder"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(**options)


def test_a_bank_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="has in_dim=4, but the bank's rows have dimension 5"):
        made()(BATCH | {"video": torch.zeros(3, 5)})
    with pytest.raises(InputError, match="context_dim=6, but the features have 4 and 7"):
        made()(BATCH | {"context": torch.zeros(3, 5, 7)})
