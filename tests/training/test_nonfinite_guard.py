import pytest
import torch
from torch import nn

from clep.training import NonFiniteGuard, NonFiniteLossError, adamw

GOOD, BAD = torch.tensor(1.0), torch.tensor(float("nan"))


def step(layer: nn.Linear, optimizer: torch.optim.Optimizer, guard: NonFiniteGuard, loss_factor: float) -> None:
    loss = layer(torch.ones(1, 2)).sum() * loss_factor
    guard.skip(optimizer, guard.check(loss))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_a_skipped_step_changes_neither_weights_nor_moments() -> None:
    layer, guard = nn.Linear(2, 1), NonFiniteGuard()
    optimizer = adamw(layer, lr=0.1)
    step(layer, optimizer, guard, 1.0)
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    moments = {key: state["exp_avg"].clone() for key, state in optimizer.state_dict()["state"].items()}
    step(layer, optimizer, guard, float("inf"))
    assert all(torch.equal(value, weights[name]) for name, value in layer.state_dict().items())
    assert all(torch.equal(state["exp_avg"], moments[key]) for key, state in optimizer.state_dict()["state"].items())
    assert all(float(state["step"]) == 1 for state in optimizer.state_dict()["state"].values())
    step(layer, optimizer, guard, 1.0)
    assert not torch.equal(layer.weight, weights["weight"])
    assert int(guard.skipped) == 1


def test_patience_counts_non_finite_losses_in_a_row() -> None:
    guard = NonFiniteGuard(patience=3)
    for loss in (BAD, BAD, GOOD, BAD, BAD):
        guard.check(loss)
        guard.raise_if_stuck()
    guard.check(BAD)
    with pytest.raises(NonFiniteLossError, match="3 steps in a row"):
        guard.raise_if_stuck()


def test_one_bad_batch_of_an_accumulated_step_skips_it() -> None:
    layer, guard = nn.Linear(2, 1), NonFiniteGuard()
    optimizer = adamw(layer, lr=0.1)
    before = layer.weight.clone()
    for index, loss in enumerate((BAD, GOOD)):
        guard.skip(optimizer, guard.check(loss), first_of_step=index == 0)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(layer.weight, before)
