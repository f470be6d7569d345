"""Batches of regions: rows, context, targets and resuming; files that do not fit together are refused."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import FeatureBank
from clep.data import Draw, LongTerm, RegionDataModule, Regions, RegionSource
from clep.errors import InputError
from tests.data.tiny_regions import CLASSES, DIM, write_regions

CONTEXT = LongTerm(window_s=6, per_second=2)


def test_a_batch_equals_the_bank_and_the_regions_file(tmp_path: Path) -> None:
    path = write_regions(tmp_path, "train", 4, seed=0)
    dataset = RegionSource(path).open(CLASSES, CONTEXT)
    bank, regions = FeatureBank.open(path), Regions.open(tmp_path / "train.regions.h5")
    assert len(dataset) == bank.n_rows == len(regions)
    index = torch.tensor([7, 0, 40])
    batch = dataset.__getitems__(Draw(index, 5))
    torch.testing.assert_close(batch["video"], bank.take(index))
    for place, row in enumerate(index.tolist()):
        shown = regions.action[regions.first_action[row] : regions.first_action[row + 1]]
        assert batch["target"][place].tolist() == [float(action in shown) for action in CLASSES]
    videos, seconds = torch.from_numpy(regions.video).long(), torch.from_numpy(regions.second)
    expected = dataset.context.gather(bank, videos[index], seconds[index], 5)
    torch.testing.assert_close(batch["context"], expected["context"])
    assert batch["context"].shape == (3, 12, DIM)
    assert torch.equal(batch["context_mask"], expected["context_mask"])
    assert torch.equal(dataset.__getitems__(Draw(index, 5))["context"], batch["context"])  # the same seed
    assert torch.equal(batch["moment"], index)
    assert dataset[-1]["video"].shape == (1, DIM)


def test_a_minute_without_regions_is_masked(tmp_path: Path) -> None:
    path = write_regions(tmp_path / "a", "train", 4, seed=0)
    other = write_regions(tmp_path / "b", "context", 2, seed=1)
    dataset = RegionSource(path, context_bank=other).open(CLASSES, CONTEXT)
    assert dataset.without_context == ["v2", "v3"]
    regions = Regions.open(path.with_suffix(".regions.h5"))
    last = torch.tensor([len(regions) - 1, 0])
    batch = dataset.__getitems__(Draw(last, 0))
    assert not batch["context_mask"][0].any()
    assert not batch["context"][0].any()
    assert batch["context_mask"][1].any()
    far = LongTerm(window_s=1, per_second=1)
    regions.second[:] += 1000  # a minute without people
    videos = torch.from_numpy(regions.video[:2]).long()
    found = far.gather(FeatureBank.open(path), videos, torch.from_numpy(regions.second[:2]))
    assert not found["context_mask"].any()


def test_files_of_two_runs_are_refused(tmp_path: Path) -> None:
    path = write_regions(tmp_path / "a", "train", 4, seed=0)
    other = write_regions(tmp_path / "b", "train", 3, seed=1)
    with pytest.raises(InputError, match=r"b/train\.regions\.h5 does not describe the rows of .*a/train\.h5"):
        RegionSource(path, regions=other.with_suffix(".regions.h5")).open(CLASSES, CONTEXT)
    with pytest.raises(InputError, match=r"has no detected boxes; `python -m clep\.preprocess ava boxes=detected`"):
        RegionSource(path, boxes="detected").open(CLASSES, CONTEXT)
    with pytest.raises(InputError, match=r"none\.h5"):
        RegionSource(tmp_path / "none.h5").open(CLASSES, CONTEXT)
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(InputError, match=r"text\.h5 is (damaged|not an HDF5 file|truncated)"):
        Regions.open(tmp_path / "text.h5")
    with pytest.raises(InputError, match=r"is not a file of regions"):
        Regions.open(path)
    unknown = write_regions(tmp_path / "c", "train", 1, seed=1)
    text = Regions.open(unknown.with_suffix(".regions.h5"))
    assert text.videos == ("v0",)


def test_a_box_without_area_is_refused(tmp_path: Path) -> None:
    regions = Regions.open(write_regions(tmp_path, "train", 2, seed=0).with_suffix(".regions.h5"))
    regions.box[3] = (0.5, 0.5, 0.5, 0.9)
    regions.write(tmp_path / "x.h5")
    with pytest.raises(InputError, match=r"region 3 has the box .*without area"):
        Regions.open(tmp_path / "x.h5")


def data_module(path: Path, **options) -> RegionDataModule:
    folder = path.parent
    made = RegionDataModule(RegionSource(path), label_map=str(folder / "map.txt"), context=CONTEXT, **options)
    made.setup()
    return made


def test_the_order_depends_on_the_seed_only_and_is_resumable(tmp_path: Path) -> None:
    path = write_regions(tmp_path, "train", 4, seed=0)
    whole = list(data_module(path, batch_size=16, seed=3).train_dataloader())
    again = data_module(path, batch_size=16, seed=3)
    sampler = again.training_sampler()
    again.load_state_dict({"epoch": 0, "batch": 2, "order": sampler.state()})
    rest = list(again.train_dataloader())
    assert len(rest) == len(whole) - 2
    for one, other in zip(rest, whole[2:], strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    changed = data_module(path, batch_size=8, seed=3)
    changed.load_state_dict({"epoch": 0, "batch": 2, "order": sampler.state()})
    with pytest.raises(InputError, match="cannot resume exactly"):
        changed.train_dataloader()


def test_dims_metadata_and_report(tmp_path: Path) -> None:
    path = write_regions(tmp_path, "train", 4, seed=0)
    data = data_module(path)
    assert data.classes == list(CLASSES)
    assert data.dims == (DIM, DIM)
    assert data.metadata["bank_encoder"] == data.metadata["context_encoder"] == "tiny"
    report = data.report["train"]
    assert report["regions"] == len(data.train_set)
    assert report["of_each_action"]["79"] == 6
    assert np.isclose(sum(report["of_each_action"].values()), data.train_set.target.sum())
    assert len(RegionDataModule(RegionSource(path)).classes) == 60
    assert len(RegionDataModule(RegionSource(path), label_map="all").classes) == 80
    with pytest.raises(InputError, match=r"data\.val\.boxes=detected"):
        RegionDataModule(RegionSource(path), val=RegionSource(path, boxes="detected"))


def test_damage_is_an_error_and_never_a_wrong_value(tmp_path: Path) -> None:
    path = write_regions(tmp_path, "train", 3, seed=0).with_suffix(".regions.h5")
    before, whole, draw, refused = Regions.open(path), path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        content, position = bytearray(whole), draw.randrange(len(whole))
        content[position] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            found = Regions.open(path)
        except InputError:
            refused += 1
            continue
        for name in Regions.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(found, name), getattr(before, name))
    assert refused > 30


@pytest.mark.parametrize(
    "change",
    [
        {"first_action": np.array([0, 2, 1])},
        {"first_action": np.array([1, 1, 2])},
        {"video": np.array([0, 1], np.int32)},
        {"video": np.array([0, -1], np.int32)},
        {"second": np.array([0.0, np.nan])},
        {"box": np.array([[0, 0, 1, np.nan], [0, 0, 1, 1]], np.float32)},
        {"boxes_digest": ("", "")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_columns_that_do_not_fit_each_other_are_refused(change: dict) -> None:
    columns = {
        "videos": ("v",),
        "boxes_digest": ("",),
        "video": np.zeros(2, np.int32),
        "second": np.array([0.0, 1.0]),
        "box": np.array([[0, 0, 1, 1]] * 2, np.float32),
        "score": np.ones(2, np.float32),
        "person": np.zeros(2, np.int32),
        "annotated": np.ones(2, bool),
        "first_action": np.array([0, 1, 2]),
        "action": np.array([80, 80], np.int32),
    }
    Regions(**columns)
    with pytest.raises(InputError, match="make the file again|correct the annotations"):
        Regions(**{**columns, **change})
