"""Encoding by chunks has the value and the gradient of encoding the whole batch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from clep.errors import InputError
from clep.losses import ClipLoss
from clep.models import DualEncoder
from clep.training.contrastive import chunks, encode_in_chunks
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


def model(dropout: float = 0.0) -> DualEncoder:
    torch.manual_seed(3)
    video = {"_target_": "clep.models.TemporalTower", "in_dim": 6, "out_dim": 5, "dim": 8, "heads": 2}
    text = {"_target_": "clep.models.ProjectionHead", "in_dim": 4, "out_dim": 5, "hidden_dim": 16, "dropout": dropout}
    return DualEncoder.from_config({"video": video | {"dropout": dropout}, "text": text})


def batch(size: int = 22) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(5)
    mask = torch.rand(size, 3, generator=random) < 0.7
    mask[0] = False
    rows, text = torch.randn(size, 3, 6, generator=random), torch.randn(size, 4, generator=random)
    return {"video": rows, "video_mask": mask, "text": text, "moment": torch.arange(size)}


def loss_of(made: DualEncoder, given: dict[str, Tensor], chunk_size: int | None) -> Tensor:
    both = (made.encode_video, made.encode_text)
    video, text = (e(given) if chunk_size is None else encode_in_chunks(e, given, chunk_size) for e in both)
    return ClipLoss()(video, text, made.logit_scale)


def gradients(made: DualEncoder) -> dict[str, Tensor]:
    return {name: p.grad for name, p in made.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk_size", [1, 5, 11, 22, 100])
def test_value_and_gradient_are_those_of_the_whole_batch(chunk_size: int) -> None:
    whole, chunked = model().double(), model().double()  # float32 alone would round by more than the bound
    given = {key: value.double() if value.is_floating_point() else value for key, value in batch().items()}
    loss_of(whole, given, None).backward()
    value = loss_of(chunked, given, chunk_size)
    value.backward()
    torch.testing.assert_close(value, loss_of(whole, given, None), rtol=0, atol=1e-6)
    assert gradients(whole).keys() == gradients(chunked).keys()
    for name, gradient in gradients(whole).items():
        assert (gradient - gradients(chunked)[name]).abs().max() < 1e-6, name


def test_dropout_is_replayed() -> None:
    """The gradient is that of the masks of the forward pass: those of the same seed without checkpoints."""
    given, made, plain = batch(), model(0.5), model(0.5)
    torch.manual_seed(7)
    value = loss_of(made, given, 4)
    value.backward()
    torch.manual_seed(7)
    embedded = [torch.cat([encode(c) for c in chunks(given, 4)]) for encode in (plain.encode_video, plain.encode_text)]
    expected = ClipLoss()(*embedded, plain.logit_scale)
    expected.backward()
    assert value == expected
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(gradients(made)[name], gradient, rtol=1e-5, atol=1e-7)
    assert loss_of(made, given, 4) != value  # the masks of another time are others


def test_autocast_is_replayed() -> None:
    given, whole, chunked = batch(), model(), model()
    for made, size in ((whole, None), (chunked, 4)):
        with torch.autocast("cpu", torch.bfloat16):
            value = loss_of(made, given, size)
        value.backward()
    for name, gradient in gradients(whole).items():
        scale = gradient.abs().max().clamp(min=1e-3)
        assert (gradients(chunked)[name] - gradient).abs().max() / scale < 0.05, name


class Counted(nn.Module):
    """A tower that notes how large its batches are, and how much is kept for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.sizes = nn.Linear(4, 5), []

    def forward(self, rows: Tensor) -> Tensor:
        self.sizes.append(len(rows))
        return self.linear(rows).relu()


def test_a_chunk_is_encoded_twice_with_gradients_and_once_without() -> None:
    made = DualEncoder(Counted(), Counted())
    made.encode_text({"text": torch.zeros(22, 4)})
    made.text.sizes.clear()
    encode_in_chunks(made.encode_text, batch(), 8).sum().backward()
    assert made.text.sizes == [8, 8, 6, 6, 8, 8]
    made.text.sizes.clear()
    with torch.no_grad():
        encode_in_chunks(made.encode_text, batch(), 8)
    assert made.text.sizes == [8, 8, 6]


def test_tensors_without_a_batch_axis_are_not_cut() -> None:
    given = batch(5) | {"table": torch.zeros(3, 2), "name": "abc", "number": torch.tensor(4)}
    given |= {"context": torch.zeros(5, 2), "context_mask": torch.zeros(5, 5)}  # five rows that all moments share
    first, second, third = chunks(given, 2)
    assert first["context"].shape == (5, 2)
    assert first["context_mask"].shape == (2, 5)
    assert [len(c["video"]) for c in (first, second, third)] == [2, 2, 1]
    assert first["table"].shape == (3, 2)
    assert (first["name"], int(first["number"])) == ("abc", 4)
    assert first["video"].data_ptr() == given["video"].data_ptr()  # a view


def test_a_chunked_run_equals_an_unchunked_one(tmp_path: Path) -> None:
    ends = []
    for chunk_size in (None, 7):
        module = tiny_module(dropout=0.0, chunk_size=chunk_size)
        tiny_trainer(tmp_path, max_epochs=2).fit(module, datamodule=tiny_data(tmp_path / "files"))
        ends.append(module.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-4, atol=1e-5)


def test_a_batch_norm_that_is_trained_is_refused(tmp_path: Path) -> None:
    module = tiny_module(chunk_size=7)
    module.model.video.append(nn.BatchNorm1d(6))
    with pytest.raises(InputError, match=r"chunk_size cannot be used with model\.video\.\d, a batch norm"):
        tiny_trainer(tmp_path).fit(module, datamodule=tiny_data(tmp_path / "files"))
    module.model.video[-1].eval()
    tiny_trainer(tmp_path, max_steps=1).fit(module, datamodule=tiny_data(tmp_path / "files"))


def test_a_chunk_size_below_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="chunk_size=0"):
        tiny_module(chunk_size=0)
