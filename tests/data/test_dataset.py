from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clep.data import Draw, MixedDataset, MomentDataset, Window
from clep.data.dataset import IndexOnlyDataset
from clep.errors import InputError
from tests.tiny_source import tiny_source


@pytest.fixture
def dataset(tmp_path: Path) -> MomentDataset:
    return tiny_source(tmp_path).open(Window())[0]


def test_a_batch_is_each_moments_own_window_and_text(dataset: MomentDataset) -> None:
    chosen = [5, 0, 77]
    batch = dataset.__getitems__(chosen)
    for place, index in enumerate(chosen):
        video = dataset.moments.video[index]
        rows = dataset.bank.video_rows(dataset.bank.videos[video]).numpy()
        centres = dataset.bank.clock.row_centres(len(rows), 60.0)
        inside = (centres >= dataset.moments.start_s[index]) & (centres <= dataset.moments.end_s[index])
        np.testing.assert_allclose(batch["video"][place], rows[inside].mean(0), atol=1e-5)
        text = dataset.texts.take([int(dataset.moments.text_id[index])])[0]
        assert torch.equal(batch["text"][place], text)
    assert batch["moment"].tolist() == chosen


def test_one_moment_is_a_batch_of_one_without_its_axis(dataset: MomentDataset) -> None:
    batch = dataset.__getitems__([3])
    for key, value in dataset[3].items():
        assert torch.equal(value, batch[key][0])
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_rows_come_with_a_mask_and_random_rows_follow_the_seed(tmp_path: Path) -> None:
    dataset = tiny_source(tmp_path).open(Window(pool="rows", max_rows=4, sample="random"))[0]
    index = torch.arange(20)
    one, same, other = (dataset.__getitems__(Draw(index, seed)) for seed in (1, 1, 2))
    assert one["video"].shape == (20, 4, dataset.bank.dim)
    assert one["video_mask"].shape == (20, 4)
    assert torch.equal(one["video"], same["video"])
    assert not torch.equal(one["video"], other["video"])


def test_no_time_step_is_empty_in_all_windows(tmp_path: Path) -> None:
    """The time axis ends with the longest window of the source, not at `max_rows`."""
    source = tiny_source(tmp_path)
    dataset, whole = (source.open(Window(pool="rows", max_rows=most))[0] for most in (40, 3))
    longest = int(
        (
            dataset.indices(torch.arange(len(dataset)))["last"] - dataset.indices(torch.arange(len(dataset)))["first"]
        ).max()
    )
    assert 3 < longest < 40
    batch = dataset.__getitems__([5, 0, 77])
    assert batch["video"].shape[1] == batch["video_mask"].shape[1] == longest
    assert whole.__getitems__([5, 0, 77])["video"].shape[1] == 3


def test_time_length_is_at_least_one() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert Window(pool="rows").time_length(nothing, nothing) == 1
    assert Window(pool="rows").time_length(torch.tensor([4, 9]), torch.tensor([4, 9])) == 1


def test_loader_workers_give_the_same_batches(dataset: MomentDataset) -> None:
    batches = [torch.arange(0, 30), torch.arange(30, 60)]
    draws = [Draw(batch, 0) for batch in batches]
    for workers in (0, 2):
        loader = DataLoader(dataset, batch_sampler=draws, collate_fn=lambda batch: batch, num_workers=workers)
        for got, expected in zip(loader, batches, strict=True):
            assert torch.equal(got["video"], dataset.__getitems__(expected.tolist())["video"])


def test_mixed_sources_are_each_gathered_from_their_own_banks(tmp_path: Path) -> None:
    parts = [tiny_source(tmp_path / name).open(Window())[0] for name in ("a", "b")]
    mixed = MixedDataset(parts)
    assert len(mixed) == len(parts[0]) + len(parts[1])
    chosen = [len(parts[0]) + 3, 2, len(parts[0]), 9]
    batch = mixed.__getitems__(chosen)
    assert batch["moment"].tolist() == [2, 9, len(parts[0]) + 3, len(parts[0])]
    assert torch.equal(batch["video"][:2], parts[0].__getitems__([2, 9])["video"])
    assert torch.equal(batch["text"][2:], parts[1].__getitems__([3, 0])["text"])
    assert torch.equal(mixed.__getitems__([1, 2])["text_id"], parts[0].__getitems__([1, 2])["text_id"])


def test_mixed_sources_with_windows_of_different_lengths_are_padded(tmp_path: Path) -> None:
    window = Window(pool="rows", max_rows=40)
    parts = [
        tiny_source(tmp_path / name, span="fixed", offset_s=offset_s).open(window)[0]
        for name, offset_s in (("a", 0.6), ("b", 2.0))
    ]
    mixed = MixedDataset(parts)
    batch = mixed.__getitems__([2, len(parts[0]) + 3])
    short, long = (part.__getitems__([number]) for part, number in zip(parts, (2, 3), strict=True))
    assert short["video"].shape[1] < long["video"].shape[1] == batch["video"].shape[1]
    for place, own in enumerate((short, long)):
        assert torch.equal(batch["video"][place][batch["video_mask"][place]], own["video"][0][own["video_mask"][0]])


def test_mixed_sources_must_fit_together(tmp_path: Path) -> None:
    source = tiny_source(tmp_path)
    with pytest.raises(InputError, match="one window"):
        MixedDataset([source.open(Window())[0], source.open(Window(align="start"))[0]])


def test_an_index_only_dataset_is_gathered_later(dataset: MomentDataset) -> None:
    draw = Draw(torch.tensor([4, 8, 1]), 11)
    indices = IndexOnlyDataset(dataset).__getitems__(draw)
    seed = indices.pop("seed")
    late, at_once = dataset.gather(indices, int(seed)), dataset.__getitems__(draw)
    assert late.keys() == at_once.keys()
    assert all(torch.equal(late[key], at_once[key]) for key in late)


def test_text_ids_beyond_the_text_bank_are_refused(dataset: MomentDataset) -> None:
    wrong = dataset.moments.select(np.arange(3))
    wrong.text_id[1] = 10_000
    with pytest.raises(InputError, match="text embeddings"):
        MomentDataset(wrong, dataset.bank, dataset.texts)
