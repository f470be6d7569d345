"""The minute around each moment, as part of a batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clep.bank import BankWriter, Clock, FeatureBank
from clep.data import Draw, LongTerm, MixedDataset, MomentDataModule, MomentDataset, Moments, Window
from clep.data.dataset import IndexOnlyDataset
from clep.errors import InputError
from clep.models import FBOAvg, FBOMax
from tests.tiny_source import TEXT_DIM, VIDEO_DIM, tiny_source, write_tiny_files


def opened(folder: Path, context: LongTerm | None, window: Window | None = None) -> MomentDataset:
    return tiny_source(folder, val_fraction=0.28).open(window or Window(), context=context)[0]


def seconds_of(dataset: MomentDataset, index: int) -> tuple[np.ndarray, torch.Tensor, float]:
    """Return in which second each row of a moment's video starts, the rows, and the moment's middle."""
    rows = dataset.bank.video_rows(dataset.bank.videos[dataset.moments.video[index]])
    starts = dataset.bank.clock.row_centres(len(rows), 60.0) - dataset.bank.clock.row_seconds / 2
    return np.floor(starts + 1e-9), rows, float(dataset.moments.start_s[index] + dataset.moments.end_s[index]) / 2


@pytest.mark.parametrize(("window_s", "per_second"), [(60, 2), (10, 1), (7, 3)])
def test_the_context_is_the_rows_of_the_seconds_around_the_middle(
    tmp_path: Path, window_s: int, per_second: int
) -> None:
    dataset = opened(tmp_path, LongTerm(window_s, per_second, sample="first", gaps=True))
    batch = dataset.__getitems__(list(range(40)))
    assert batch["context"].shape == (40, window_s * per_second, VIDEO_DIM)
    for index in range(40):
        of_second, rows, middle_s = seconds_of(dataset, index)
        for k in range(window_s):
            own = rows[of_second == np.floor(middle_s) - window_s // 2 + k][:per_second]
            slots = slice(k * per_second, (k + 1) * per_second)
            assert batch["context_mask"][index, slots].tolist() == [j < len(own) for j in range(per_second)]
            assert torch.equal(batch["context"][index, slots][: len(own)], own)
            assert not batch["context"][index, slots][len(own) :].any()


@pytest.mark.parametrize(("window_s", "per_second"), [(60, 2), (10, 1), (7, 3)])
@pytest.mark.parametrize("sample", ["first", "random"])
def test_without_gaps_the_rows_of_a_moment_stand_first(
    tmp_path: Path, window_s: int, per_second: int, sample: str
) -> None:
    draw = Draw(torch.arange(40), 3)
    slots, packed = (
        opened(tmp_path, LongTerm(window_s, per_second, sample, gaps=gaps)).__getitems__(draw) for gaps in (True, False)
    )
    lengths = slots["context_mask"].sum(1)
    assert packed["context"].shape == (40, lengths.max(), VIDEO_DIM)
    assert torch.equal(packed["context_mask"], torch.arange(int(lengths.max())) < lengths[:, None])
    for one, mask, other in zip(slots["context"], slots["context_mask"], packed["context"], strict=True):
        assert torch.equal(other[: mask.sum()], one[mask])
        assert not other[mask.sum() :].any()


def test_two_slots_a_second_hold_every_row_of_the_window(tmp_path: Path) -> None:
    dataset = opened(tmp_path, LongTerm(window_s=121))
    assert (dataset.__getitems__(list(range(20)))["context_mask"].sum(1) == 111).all()


def test_nothing_else_of_a_batch_changes(tmp_path: Path) -> None:
    window = Window(pool="rows", max_rows=3, sample="random")
    draw = Draw(torch.arange(30), 7)
    without = opened(tmp_path, None, window).__getitems__(draw)
    with_context = opened(tmp_path, LongTerm(), window).__getitems__(draw)
    assert with_context.keys() - without.keys() == {"context", "context_mask"}
    assert all(torch.equal(with_context[key], without[key]) for key in without)


def test_random_rows_follow_the_seed_and_stay_in_their_second(tmp_path: Path) -> None:
    dataset, index = opened(tmp_path, LongTerm(20, 1, gaps=True)), torch.arange(30)
    one, same, other = (dataset.__getitems__(Draw(index, seed)) for seed in (1, 1, 2))
    assert torch.equal(one["context"], same["context"])
    assert not torch.equal(one["context"], other["context"])
    assert torch.equal(one["context_mask"], other["context_mask"])
    seen = set()
    for place in range(30):
        of_second, rows, middle_s = seconds_of(dataset, place)
        for k in one["context_mask"][place].nonzero().flatten().tolist():
            (row,) = (rows == one["context"][place, k]).all(1).nonzero().flatten().tolist()
            assert of_second[row] == np.floor(middle_s) - 10 + k
            seen.add(int((of_second[:row] == of_second[row]).sum()))
    assert seen == {0, 1}


@pytest.mark.parametrize(("pool", "operator"), [("mean", FBOAvg), ("max", FBOMax)])
@pytest.mark.parametrize("sample", ["first", "random"])
def test_a_pooled_context_equals_the_operator_on_the_rows(
    tmp_path: Path, pool: str, operator: type, sample: str
) -> None:
    draw, apply = Draw(torch.arange(30), 3), operator(VIDEO_DIM, latent_dim=None).eval()
    rows, pooled = (opened(tmp_path, LongTerm(20, 1, sample, p)).__getitems__(draw) for p in ("rows", pool))
    assert pooled["context"].shape == (30, 1, VIDEO_DIM)
    assert pooled["context_mask"].shape == (30, 1)
    one, other = (apply(batch["video"], batch["context"], batch["context_mask"]) for batch in (rows, pooled))
    torch.testing.assert_close(one, other)
    assert LongTerm(60, 2, pool=pool).at_once(4096) == 4096


def test_held_out_moments_have_a_fixed_context(tmp_path: Path) -> None:
    context = LongTerm(20, 1, sample="random")
    train, held_out = tiny_source(tmp_path, val_fraction=0.28).open(Window(), context=context)
    assert (train.context, held_out.context) == (context, LongTerm(20, 1, sample="first"))
    one, other = (held_out.__getitems__(Draw(torch.arange(30), seed)) for seed in (1, 2))
    assert torch.equal(one["context"], other["context"])


def test_rows_with_explicit_seconds(tmp_path: Path) -> None:
    """Five regions at second 3, one at 4.5, none later than 20."""
    seconds = np.array([3.0, 3.0, 3.0, 3.0, 3.0, 4.5, 20.0])
    rows = np.arange(7, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    with BankWriter(tmp_path / "regions.h5", 4, Clock.irregular(1.0), "float32", encoder="x") as writer:
        writer.add("v", rows, seconds=seconds, duration_s=100.0)
    with BankWriter(tmp_path / "texts.h5", TEXT_DIM, None, "float32") as writer:
        writer.add("texts", np.zeros((1, TEXT_DIM), np.float32))
    spans = np.array([[2.0, 6.0], [19.0, 20.0], [80.0, 81.0]])
    moments = Moments(np.zeros(3, np.int64), spans[:, 0].copy(), spans[:, 1].copy(), np.zeros(3, np.int64))
    banks = FeatureBank.open(tmp_path / "regions.h5"), FeatureBank.open(tmp_path / "texts.h5")
    batch = MomentDataset(moments, *banks, context=LongTerm(4, 3, gaps=True)).__getitems__([0, 1, 2])
    indices, mask = batch["context"][:, :, 0], batch["context_mask"]
    assert mask.view(3, 4, 3).sum(2).tolist() == [[0, 3, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    drawn = indices[0][mask[0]].tolist()
    assert drawn == sorted(drawn)
    assert len(set(drawn)) == 4
    assert (drawn[-1], indices[1][mask[1]].tolist()) == (5.0, [6.0])


@pytest.mark.parametrize("device", ["disk", "cpu"])
def test_indices_become_features_at_the_transfer(tmp_path: Path, device: str) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        write_tiny_files(tmp_path / name, seed=seed)
    sources = {name: tiny_source(tmp_path / name) for name in ("a", "b")}
    window = Window(pool="rows", max_rows=3, sample="random")
    data = MomentDataModule(sources, window, batch_size=20, device=device, context=LongTerm(20, 1))
    data.setup()
    draw = next(iter(data.training_sampler()))
    late = data.transfer_batch_to_device(IndexOnlyDataset(data.train_set).__getitems__(draw), torch.device("cpu"), 0)
    at_once = data.train_set.__getitems__(draw)
    assert late.keys() == at_once.keys()
    assert {"context", "context_mask"} < late.keys()
    assert all(torch.equal(late[key], at_once[key]) for key in late)


def test_loader_workers_give_the_same_contexts(tmp_path: Path) -> None:
    dataset, draws = opened(tmp_path, LongTerm(20, 1)), [Draw(torch.arange(0, 30), 5), Draw(torch.arange(30, 60), 6)]
    loader = DataLoader(dataset, batch_sampler=draws, collate_fn=lambda batch: batch, num_workers=2)
    for got, draw in zip(loader, draws, strict=True):
        assert torch.equal(got["context"], dataset.__getitems__(draw)["context"])


def test_mixed_sources_need_one_context(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one context"):
        MixedDataset([opened(tmp_path, LongTerm()), opened(tmp_path, None)])


def test_a_model_remembers_its_context(tmp_path: Path) -> None:
    source = {"tiny": tiny_source(tmp_path)}
    metadata = MomentDataModule(source, context=LongTerm(30, 1)).metadata("some-encoder")
    assert metadata["context"] == {"window_s": 30, "per_second": 1, "sample": "random", "pool": "rows", "gaps": False}
    assert LongTerm.of_model(metadata) == LongTerm(30, 1, sample="first")
    del metadata["context"]["gaps"]  # as before there was a choice
    assert LongTerm.of_model(metadata) == LongTerm(30, 1, sample="first", gaps=True)
    without = MomentDataModule(source).metadata("some-encoder")
    assert "context" not in without
    assert LongTerm.of_model(without) is None


def test_batches_of_an_evaluation_stay_small() -> None:
    assert LongTerm(60, 2).at_once(4096) == 273
    assert LongTerm(60, 2).at_once(7) == 7
    assert LongTerm(100_000, 5).at_once(7) == 1


@pytest.mark.parametrize("options", [{"window_s": 0}, {"per_second": 0}])
def test_options_are_checked(options: dict) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        LongTerm(**options)


def test_a_bank_of_texts_has_no_context(tmp_path: Path) -> None:
    dataset = opened(tmp_path, None)
    with pytest.raises(InputError, match="has no clock"):
        LongTerm().gather(dataset.texts, torch.tensor([0]), torch.tensor([1.0], dtype=torch.float64))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_contexts_gathered_on_a_gpu_equal_those_on_the_host(tmp_path: Path) -> None:
    options = {"batch_size": 20, "context": LongTerm(20, 2, sample="first")}
    on_host, on_gpu = (MomentDataModule({"t": tiny_source(tmp_path)}, device=d, **options) for d in ("disk", "cuda"))
    for data in (on_host, on_gpu):
        data.setup()
    for host, indices in zip(on_host.train_dataloader(), on_gpu.train_dataloader(), strict=True):
        gpu = on_gpu.transfer_batch_to_device(indices, torch.device("cuda"), 0)
        assert torch.equal(gpu["context"].cpu(), host["context"])
        assert torch.equal(gpu["context_mask"].cpu(), host["context_mask"])
