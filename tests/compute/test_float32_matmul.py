import gc
from pathlib import Path

import pytest
import torch

from clep.compute import float32_matmul as cpu_products
from clep.compute.float32_matmul import fast_float32_products
from clep.training import ContrastiveModule
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


def products() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.randn(300, 700, generator=generator) for _ in range(2))
    return left @ right.T, left.double() @ right.double().T


def test_products_stay_float32() -> None:
    with fast_float32_products():
        found, exact = products()
    assert (found - exact).abs().max() < 2e-4  # bfloat16 errs by about 0.3 here


def test_the_setting_is_restored() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(KeyError), fast_float32_products():
        raise KeyError
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_not_used_if_precision_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_products, "_keeps_float32", lambda: False)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with fast_float32_products() as changed:
        assert not changed
        assert torch.backends.mkldnn.matmul.fp32_precision == before


class Watched(ContrastiveModule):
    """Notes the precision in the forward and the backward pass of each step."""

    def compute_loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = super().compute_loss(batch)
        self.seen = [*getattr(self, "seen", []), torch.backends.mkldnn.matmul.fp32_precision]
        if loss.requires_grad:
            loss.register_hook(lambda _: self.seen.append(torch.backends.mkldnn.matmul.fp32_precision))
        return loss


def watched() -> Watched:
    module = tiny_module()
    module.__class__ = Watched
    return module


def test_used_only_while_fitting(tmp_path: Path) -> None:
    module, before = watched(), torch.backends.mkldnn.matmul.fp32_precision
    tiny_trainer(tmp_path, max_epochs=1).fit(module, datamodule=tiny_data(tmp_path / "f"))
    with fast_float32_products() as changes:
        assert set(module.seen) == {"bf16" if changes else before}
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize("point", ["on_fit_start", "compute_loss", "backward", "on_train_epoch_end"])
def test_a_training_that_failed_changes_nothing_later(tmp_path: Path, point: str) -> None:
    """Once, its setting stayed, and was taken back whenever the garbage collector found it: within another training."""

    def fail(*_: object, **__: object) -> None:
        raise KeyError(point)

    failing, before = watched(), torch.backends.mkldnn.matmul.fp32_precision
    setattr(failing, point, fail)
    with pytest.raises(KeyError):
        tiny_trainer(tmp_path / "failed", max_epochs=1).fit(failing, datamodule=tiny_data(tmp_path / "f"))
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    module = watched()
    module.on_train_batch_start = lambda *_: gc.collect()
    del failing
    tiny_trainer(tmp_path / "next", max_epochs=1).fit(module, datamodule=tiny_data(tmp_path / "g"))
    assert len(set(module.seen)) == 1
