"""What the module does beyond its datasets: devices, mixing, and the place in the data."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from clep.bank import FeatureBank
from clep.data import LongTerm, MomentDataModule, Window, datamodule
from clep.data.datamodule import TimedDataLoader, warn_of_slow_loading
from clep.data.dataset import IndexOnlyDataset
from clep.errors import InputError
from tests.bank.banks import pretend_gpu
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


def test_texts_that_are_large_stay_on_disk_unless_a_setting_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def storage(**options: object) -> str:
        data = module(tmp_path, **options)
        data.setup()
        return data.train_set.texts.storage

    texts = FeatureBank.open(module(tmp_path).sources["tiny"].texts_path)
    size = texts.n_rows * texts.dim * 4
    monkeypatch.setattr(datamodule, "TEXTS_IN_RAM_BYTES", size)
    assert storage() == "cpu"
    monkeypatch.setattr(datamodule, "TEXTS_IN_RAM_BYTES", size - 1)
    assert (storage(), storage(text_device="cpu")) == ("disk", "cpu")


def test_batches_of_a_bank_too_large_for_the_gpu_are_gathered_by_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = module(tmp_path)
    on_disk.setup()
    with monkeypatch.context() as patch:
        pretend_gpu(patch, 100)
        data = module(tmp_path, device="cuda")
        data.setup()
        assert (data.train_set.bank.storage, data.train_set.texts.storage) == ("disk", "disk")
    for mine, theirs in zip(data.train_dataloader(), on_disk.train_dataloader(), strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


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


class SlowSet(torch.utils.data.Dataset):
    """Batches that take a while to read, on a clock of the test."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        self.clock[0] += self.seconds if index else 100.0  # the first batch starts the workers
        return index


@pytest.mark.parametrize(
    ("read_s", "step_s", "busy", "share"),
    [(3.0, 1.0, False, "75 %"), (1.0, 3.0, False, ""), (0.9, 0.1, False, ""), (3.0, 1.0, True, "")],
    ids=["slow disk", "slow step", "short epoch", "GPU at work meanwhile"],
)
def test_an_epoch_that_waits_for_the_disk_says_so(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    read_s: float,
    step_s: float,
    busy: bool,
    share: str,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(datamodule, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    if busy:
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(query=lambda: False))
    loader = TimedDataLoader(SlowSet(clock, read_s), batch_size=None)
    for epoch in range(2):
        for expected, found in enumerate(loader):
            assert found == expected
            clock[0] += step_s
        warn_of_slow_loading(loader, epoch)
    assert loader.steps == 5
    assert loader.total_s == pytest.approx(5 * (read_s + step_s))
    assert loader.waited_s == pytest.approx(0.0 if busy else 5 * read_s)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (2 if share else 0)
    if share:
        assert f"epoch 1: {share} of the time went into waiting for batches, 3000.0 of 4000.0 ms a step" in messages[1]


def test_a_timed_loader_of_nothing_and_another_loader_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    empty = TimedDataLoader([], batch_size=None)
    assert list(empty) == []
    for loader in (empty, DataLoader([1]), None):
        warn_of_slow_loading(loader, 0)
    assert not caplog.records
