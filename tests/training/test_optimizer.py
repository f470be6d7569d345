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


def rates(dual: DualEncoder, **options: object) -> dict[str, float]:
    by_id = {id(p): group["lr"] for group in adamw(dual, lr=1.0, **options).param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in dual.named_parameters() if id(p) in by_id}


def test_learning_rate_factors_by_prefix() -> None:
    found = rates(model(), lr_factors={"video": 0.5, "video.1": 0.1, "log_scale": 2.0})
    assert found == {
        "log_scale": 2.0,
        **{"video.0.weight": 0.5, "video.0.bias": 0.5, "video.1.weight": 0.1, "video.1.bias": 0.1},
        **{"text.weight": 1.0, "text.bias": 1.0},
    }
    groups = adamw(model(), lr=1.0, lr_factors={"video": 0.5}, weight_decay=0.3).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1, 0.3), (1, 0), (0.5, 0.3), (0.5, 0)]
    assert sum(len(group["params"]) for group in groups) == len(list(model().parameters()))


def test_a_schedule_scales_every_rate() -> None:
    optimizer = adamw(model(), lr=1.0, lr_factors={"text": 0.1})
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5, 0.05}


def test_a_prefix_without_parameters_is_refused() -> None:
    with pytest.raises(InputError, match=r"lr_factors\.txet: no parameter has this prefix.*'text'.*lr_factors=null"):
        adamw(model(), lr_factors={"txet": 0.1})
    with pytest.raises(InputError, match=r"lr_factors\.vid: no parameter"):  # half a name
        adamw(model(), lr_factors={"vid": 0.1})
    with pytest.raises(InputError, match=r"lr_factors\.text: longer prefixes match all"):
        adamw(model(), lr_factors={"text": 0.5, "text.weight": 0.1, "text.bias": 0.1})
    with pytest.raises(InputError, match=r"lr_factors\.text=0.* must be positive"):
        adamw(model(), lr_factors={"text": 0.0})


def test_a_prefix_of_frozen_parameters_is_ignored() -> None:
    frozen = model()
    frozen.text.requires_grad_(False)
    found = rates(frozen, lr_factors={"text": 0.1, "text.weight": 0.2, "video": 0.5})
    assert set(found.values()) == {0.5, 1.0}
    assert not any(name.startswith("text") for name in found)
