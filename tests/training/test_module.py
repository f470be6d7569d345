import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn

from clep.data import datamodule
from clep.errors import InputError
from clep.losses import ClipLoss, DiagonalPositives, SigmoidLoss, VerbNounPositives
from clep.training import ContrastiveModule, NonFiniteLossError, adamw, warmup_cosine
from tests.training.tiny_run import tiny_data, tiny_model, tiny_module, tiny_trainer


def test_every_nth_step_is_logged(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name=None, version="csv")
    tiny_trainer(tmp_path, logger=logger, log_every_n_steps=3).fit(tiny_module(), datamodule=tiny_data(tmp_path / "f"))
    rows = pd.read_csv(tmp_path / "csv" / "metrics.csv").dropna(subset="train/loss")
    assert rows["step"].tolist() == list(range(2, 24, 3))


def test_the_loss_falls_and_the_scale_stays_bounded(tmp_path: Path) -> None:
    module = tiny_module(dropout=0.0)
    data = tiny_data(tmp_path / "f")
    data.setup()
    batch = data.train_set.__getitems__(list(range(40)))
    before = float(module.compute_loss(batch).detach())
    tiny_trainer(tmp_path, max_epochs=12).fit(module, datamodule=data)
    assert float(module.compute_loss(batch).detach()) < before - 0.5
    assert 0 <= float(module.model.log_scale) <= 4.6052


def test_the_schedule_ends_with_the_run(tmp_path: Path) -> None:
    module = tiny_module()
    trainer = tiny_trainer(tmp_path, max_epochs=3)
    trainer.fit(module, datamodule=tiny_data(tmp_path / "f"))
    assert module.total_steps() == trainer.global_step == 24
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "steps"), [({"accumulate_grad_batches": 3}, 9), ({"max_steps": 5}, 5), ({"limit_train_batches": 2}, 6)]
)
def test_steps_are_counted_as_the_trainer_takes_them(tmp_path: Path, options: dict, steps: int) -> None:
    module = tiny_module()
    trainer = tiny_trainer(tmp_path, **options)
    trainer.fit(module, datamodule=tiny_data(tmp_path / "f"))
    assert module.total_steps() == trainer.global_step == steps


class Asked(nn.Module):
    """A loss that remembers which positives it was given."""

    def forward(self, video: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, positives=None, bias=None):
        self.positives = positives
        return (video - text).square().mean()


def test_equal_texts_are_positives_by_rule_only(tmp_path: Path) -> None:
    data = tiny_data(tmp_path / "f")
    data.setup()
    batch = data.train_set.__getitems__(list(range(60)))
    assert len(batch["text_id"].unique()) < 60
    for options in ({}, {"positives": DiagonalPositives()}):
        loss = Asked()
        ContrastiveModule(tiny_model(), loss, adamw, **options).compute_loss(batch)
        if options:
            assert loss.positives is None
        else:
            texts = batch["text_id"].tolist()
            assert loss.positives.tolist() == [[one == other for other in texts] for one in texts]


def test_positives_whose_keys_the_batch_lacks_are_refused_with_the_setting(tmp_path: Path) -> None:
    module = tiny_module(positives=VerbNounPositives())
    with pytest.raises(InputError, match=r"'verb' and 'noun', which the batch lacks.*data\.verb_noun=given"):
        tiny_trainer(tmp_path).fit(module, datamodule=tiny_data(tmp_path / "f"))


def test_the_bias_is_trained_and_logged_and_refused_for_a_softmax(tmp_path: Path) -> None:
    model = tiny_model(init_bias=4.0)  # calls nearly all pairs right
    with pytest.raises(InputError, match=r"model\.init_bias.*ClipLoss"):
        ContrastiveModule(model, ClipLoss(), adamw)
    module = ContrastiveModule(model, SigmoidLoss(), lambda model: adamw(model, lr=0.01), warmup_cosine(0.1))
    trainer = tiny_trainer(tmp_path)
    trainer.fit(module, datamodule=tiny_data(tmp_path / "f"))
    assert model.logit_bias.item() < 3.95
    assert trainer.callback_metrics["train/logit_bias"] == pytest.approx(model.logit_bias.item(), abs=0.02)


def test_form_local_without_share_is_refused() -> None:
    with pytest.raises(InputError, match=r"form=local.*Asked has no share\(\); use form=global"):
        ContrastiveModule(tiny_model(), Asked(), adamw, form="local")


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_can_be_clipped(tmp_path: Path, algorithm: str) -> None:
    trainer = tiny_trainer(tmp_path, gradient_clip_val=1e-4, gradient_clip_algorithm=algorithm, precision="bf16-mixed")
    module = tiny_module()
    norms = []
    clip = module.configure_gradient_clipping

    def clip_and_note(*arguments: object, **options: object) -> None:
        clip(*arguments, **options)
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in module.model.parameters()]))

    module.configure_gradient_clipping = clip_and_note
    trainer.fit(module, datamodule=tiny_data(tmp_path / "f"))
    largest = max(norms)
    assert largest <= 1e-4 * (1.01 if algorithm == "norm" else sum(p.numel() for p in module.parameters()) ** 0.5)


def test_repeated_nan_losses_stop_the_run_with_the_reason(tmp_path: Path) -> None:
    module = tiny_module(patience=3)
    with torch.no_grad():
        module.model.video[0].weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="3 steps in a row"):
        tiny_trainer(tmp_path).fit(module, datamodule=tiny_data(tmp_path / "f"))


def test_weights_that_diverge_are_named_before_they_are_evaluated(tmp_path: Path) -> None:
    module = tiny_module()
    with torch.no_grad():
        module.model.text[0].bias[0] = float("inf")
    with pytest.raises(NonFiniteLossError, match=r"model\.text\.0\.bias are not finite.*optim\.optimizer\.lr"):
        tiny_trainer(tmp_path).validate(module, datamodule=tiny_data(tmp_path / "f"), verbose=False)


def test_checkpoints_are_plain_data(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, max_epochs=1)
    trainer.fit(tiny_module(), datamodule=tiny_data(tmp_path / "f"))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    stored = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert stored["clep"]["model"]["video"]["_target_"] == "clep.models.ProjectionHead"


def test_a_run_whose_disk_is_slower_than_its_steps_says_so_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(datamodule, "SLOW_S", 0.0)
    monkeypatch.setattr(datamodule, "SLOW_SHARE", 0.1)  # on a busy machine the steps take long too
    data = tiny_data(tmp_path / "files")
    data.setup()
    read = data.train_set.__getitems__

    def read_slowly(draw: Any) -> Any:
        time.sleep(0.1)
        return read(draw)

    monkeypatch.setattr(type(data.train_set), "__getitems__", lambda self, draw: read_slowly(draw))
    tiny_trainer(tmp_path, max_epochs=2, limit_train_batches=3).fit(tiny_module(), datamodule=data)
    said = [record.getMessage() for record in caplog.records if "waiting for batches" in record.getMessage()]
    assert [message.split(":")[0] for message in said] == ["epoch 0", "epoch 1"]
    assert "data.num_workers" in said[0]
