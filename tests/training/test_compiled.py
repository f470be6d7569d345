"""Compiled steps: the losses of plain ones, and what happens where the compiler fails."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clep.training.compiled import CompiledLoss


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.3), nn.Linear(8, 4))


def loss_of(model: nn.Module) -> Callable[[dict[str, Any]], Tensor]:
    def compute_loss(batch: dict[str, Any]) -> Tensor:
        similarity = model(batch["video"]) @ batch["text"].T
        return nn.functional.cross_entropy(similarity, torch.arange(len(similarity)))

    return compute_loss


def trained(model: nn.Module, compute_loss: Callable[[dict[str, Any]], Tensor], steps: int = 4) -> list[float]:
    """Take a few steps on batches that depend on their number only."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.5), []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        batch = {key: torch.randn(5, dim, generator=generator) for key, dim in (("video", 6), ("text", 4))}
        torch.manual_seed(step)
        loss = compute_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slow
def test_losses_equal_those_of_plain_steps(model: nn.Module) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    plain = trained(model, loss_of(model))
    model.load_state_dict(start)
    compiled = trained(model, CompiledLoss(loss_of(model), model.parameters()))
    assert compiled == pytest.approx(plain, rel=1e-6)
    assert len(set(plain)) == 4


def test_the_trial_draws_no_random_numbers_of_the_step(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: calls.append(options) or function)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    plain = trained(model, loss_of(model))
    model.load_state_dict(start)
    assert trained(model, CompiledLoss(loss_of(model), model.parameters())) == plain
    assert len(calls) == 1


class _FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError("no C++ compiler")


@pytest.mark.parametrize("when", ["compiling", "forward", "backward"])
def test_without_a_working_compiler_steps_run_plainly_and_say_so_once(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    def compile_(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        if when == "compiling":
            raise RuntimeError("no C++ compiler")

        def forward(batch: dict[str, Any]) -> Tensor:
            if when == "forward":
                raise RuntimeError("no C++ compiler")
            return _FailsBackward.apply(function(batch))

        return forward

    monkeypatch.setattr(torch, "compile", compile_)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    plain = trained(model, loss_of(model))
    model.load_state_dict(start)
    with caplog.at_level(logging.WARNING):
        assert trained(model, CompiledLoss(loss_of(model), model.parameters())) == plain
    assert [record.getMessage().split(", so")[0] for record in caplog.records] == [
        "compile=true: torch.compile failed (RuntimeError: no C++ compiler)"
    ]


def test_a_lack_of_memory_is_no_failure_of_the_compiler(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(batch: dict[str, Any]) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda function, **options: full)
    with pytest.raises(torch.OutOfMemoryError):
        trained(model, CompiledLoss(loss_of(model), model.parameters()))
