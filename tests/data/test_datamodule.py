"""What the module does beyond its datasets: devices, mixing, and the place in the data."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clep.bank import FeatureBank
from clep.data import LongTerm, MomentDataModule, Window
from clep.data.dataset import IndexOnlyDataset
from clep.errors import InputError
from tests.tiny_source import tiny_source, write_tiny_files


def module(folder: Path, **options: object) -> MomentDataModule:
    return MomentDataModule({"tiny": tiny_source(folder, val_fraction=0.28)}, batch_size=20, **options)


def test_a_batch_of_indices_becomes_features_at_the_transfer(tmp_path: Path) -> None:
    data = module(tmp_path, window=Window(pool="rows", max_rows=3, sample="random"))
    data.setup()
    draw = next(iter(data.training_sampler()))
    indices, at_once = IndexOnlyDataset(data.train_set).__getitems__(draw), data.train_set.__getitems__(draw)
    for batch in (indices, at_once):
        moved = data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
        assert moved.keys() == at_once.keys()
        assert all(torch.equal(moved[key], at_once[key]) for key in moved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": Window(pool="rows", max_rows=3, sample="random")},
        {"context": LongTerm(20, 2, sample="random")},
        {"context": LongTerm(20, 1, sample="first", pool="mean")},
        {"context": LongTerm(20, 1, pool="max")},
    ],
    ids=["mean", "rows", "context", "context mean", "context max"],
)
def test_rows_on_a_device_are_looked_up_without_waiting_for_it(
    tmp_path: Path, options: dict, dtype: torch.dtype
) -> None:
    """Rows on the meta device have no values, so reading one of them is an error. On a GPU it would wait."""
    on_host, on_device = module(tmp_path, **options), module(tmp_path, **options)
    for data in (on_host, on_device):
        data.setup()
    for part in on_device.parts:
        for bank in (part.bank, part.texts):
            rows = bank._contents.rows
            pieces = [piece.to("meta", dtype) for piece in rows.pieces]
            bank._contents.rows = replace(rows, pieces=pieces, digests=(), verify_reads=False)
    draw = next(iter(on_host.training_sampler()))
    expected, indices = on_host.train_set.__getitems__(draw), IndexOnlyDataset(on_device.train_set).__getitems__(draw)
    moved = on_device.transfer_batch_to_device(indices, torch.device("meta"), 0)
    assert {key: (value.shape, value.dtype) for key, value in moved.items()} == {
        key: (value.shape, value.dtype) for key, value in expected.items()
    }
    assert all(value.device.type == "meta" for value in moved.values())


def test_mixed_sources_survive_the_transfer_and_share_sentences(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        write_tiny_files(tmp_path / name, seed=seed)
    sources = {name: tiny_source(tmp_path / name, weight=weight) for name, weight in (("a", 3.0), ("b", 1.0))}
    data = MomentDataModule(sources, batch_size=40)
    data.setup()
    sampler = data.training_sampler()
    assert sampler.state()["counts"][0] == pytest.approx(3 * sampler.state()["counts"][1], abs=3)
    draw = next(iter(sampler))
    late = data.transfer_batch_to_device(IndexOnlyDataset(data.train_set).__getitems__(draw), torch.device("cpu"), 0)
    at_once = data.train_set.__getitems__(draw)
    assert all(torch.equal(late[key], at_once[key]) for key in at_once)
    assert len(late["moment"]) == 40


def test_what_a_model_must_remember_comes_from_the_files(tmp_path: Path) -> None:
    data = module(tmp_path)
    assert data.dims == (12, 8)
    metadata = data.metadata("some-encoder")
    assert (metadata["bank_encoder"], metadata["tag_style"]) == ("tiny", "clean")
    assert metadata["window"] == Window().to_dict()


def test_nothing_held_out_still_validates_once(tmp_path: Path) -> None:
    data = MomentDataModule({"tiny": tiny_source(tmp_path, val_fraction=0.0)}, batch_size=20)
    data.setup()
    assert list(data.val_dataloader()) == [{}]


def test_held_out_batches_are_the_same_in_every_epoch(tmp_path: Path) -> None:
    data = module(tmp_path)
    data.setup()
    loader = data.val_dataloader()
    first, second = ([batch["moment"].tolist() for batch in loader] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 1}, "at least 2"), ({"sources": {}}, "sources is empty"), ({"batch_size": 500}, "or less")],
)
def test_bad_options_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data = MomentDataModule(**{"sources": {"tiny": tiny_source(tmp_path)}, "batch_size": 20, **options})
        data.setup()
        data.training_sampler()


def test_weights_are_for_all_sources_or_none(tmp_path: Path) -> None:
    sources = {name: tiny_source(tmp_path / name, weight=weight) for name, weight in (("a", 1.0), ("b", None))}
    data = MomentDataModule(sources, batch_size=20)
    data.setup()
    with pytest.raises(InputError, match="every source, or to none"):
        data.training_sampler()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(("device", "text_device"), [("cuda", None), ("cuda", "cpu"), ("disk", "cuda")])
def test_gathers_on_a_gpu_equal_those_on_the_host(tmp_path: Path, device: str, text_device: str | None) -> None:
    on_host, on_gpu = module(tmp_path), module(tmp_path, device=device, text_device=text_device)
    for data in (on_host, on_gpu):
        data.setup()
    for host, indices in zip(on_host.train_dataloader(), on_gpu.train_dataloader(), strict=True):
        gpu = on_gpu.transfer_batch_to_device(indices, torch.device("cuda"), 0)
        assert all(value.is_cuda for value in gpu.values())
        assert torch.allclose(gpu["video"].cpu(), host["video"], atol=1e-5)
        assert torch.equal(gpu["text"].cpu(), host["text"])
    assert FeatureBank.open(tmp_path / "bank.h5").dim == 12
