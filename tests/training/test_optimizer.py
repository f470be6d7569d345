import pytest
import torch
from torch import nn

from clep.errors import InputError
from clep.models import DualEncoder
from clep.training import adamw


def model() -> DualEncoder:
    return DualEncoder(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), nn.Linear(3, 4))


def test_decay_is_for_matrices_only() -> None:
    dual = model()
    by_id = {
        id(p): group["weight_decay"] for group in adamw(dual, weight_decay=0.3).param_groups for p in group["params"]
    }
    decays = {name: by_id[id(p)] for name, p in dual.named_parameters()}
    assert {name for name, decay in decays.items() if decay} == {"video.0.weight", "text.weight"}
    assert decays["log_scale"] == 0


def test_decay_on_all_is_pytorchs_default() -> None:
    dual = model()
    (group,) = adamw(dual, decay="all", weight_decay=0.01).param_groups
    assert len(group["params"]) == len(list(dual.parameters()))


def test_frozen_parameters_are_left_out() -> None:
    dual = model()
    dual.text.requires_grad_(False)
    trained = {id(p) for group in adamw(dual).param_groups for p in group["params"]}
    assert not trained & {id(p) for p in dual.text.parameters()}


def test_one_step_is_adamws() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    ours = adamw(one, lr=0.1, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1)
    groups = [{"params": [other.weight], "weight_decay": 0.1}, {"params": [other.bias], "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95), eps=1e-8, fused=False, foreach=False)
    for layer, optimizer in ((one, ours), (other, theirs)):
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert torch.allclose(one.weight, other.weight, atol=1e-6)
    assert torch.allclose(one.bias, other.bias, atol=1e-6)


@pytest.mark.parametrize("betas", [[0.9], [0.9, 0.98, 0.99]])
def test_betas_are_two(betas: list[float]) -> None:
    with pytest.raises(InputError, match="betas"):
        adamw(model(), betas=betas)
