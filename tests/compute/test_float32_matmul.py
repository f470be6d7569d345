from pathlib import Path

import pytest
import torch

from clep.compute import float32_matmul as cpu_products
from clep.compute.float32_matmul import fast_float32_products
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


def test_used_only_while_fitting(tmp_path: Path) -> None:
    module, seen = tiny_module(), []
    step = module.training_step

    def training_step(batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return step(batch, batch_idx)

    module.training_step = training_step
    before = torch.backends.mkldnn.matmul.fp32_precision
    tiny_trainer(tmp_path, max_epochs=1).fit(module, datamodule=tiny_data(tmp_path / "f"))
    with fast_float32_products() as changes:
        assert set(seen) == {"bf16" if changes else before}
    assert torch.backends.mkldnn.matmul.fp32_precision == before
