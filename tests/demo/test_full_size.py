"""The synthetic Ego4D at its true counts: exact counts, official formats, refused where it does not fit."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from clep.bank import FeatureBank
from clep.datasets.ego4d import read_ego4d
from clep.demo import SyntheticEgo4D, full_size
from clep.errors import InputError

TINY = SyntheticEgo4D(fraction=0.0005, dim=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full_size")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_size, "_AT_ONCE", 300)  # several blocks
        TINY.make(folder, progress=False)
    return folder


def test_the_counts_are_those_of_ego4d(made: Path) -> None:
    assert SyntheticEgo4D(fraction=1).counts == {
        **{"videos": 9_645, "narrations": 3_850_000},
        **{"distinct_texts": 1_925_000, "rows": 24_800_000},
    }
    assert SyntheticEgo4D(fraction=1).bytes_on_disk < 14e9
    table = read_ego4d(made / "ego4d" / "narration.json", made / "ego4d" / "ego4d.json")
    bank = FeatureBank.open(made / "clep" / "ego4d_features.h5")
    counts = SyntheticEgo4D.read(made)["counts"]
    found = {"videos": len(bank), "narrations": len(table), "distinct_texts": len(table.written), "rows": bank.n_rows}
    assert found == TINY.counts == {key: counts[key] for key in found}
    assert counts["bytes"] <= TINY.bytes_on_disk
    assert list(table.videos) == list(bank.videos)
    assert table.report["bad_time"] == table.report["after_end"] == table.report["empty"] == 0
    assert set(table.passes.tolist()) == {1, 2}
    assert (table.second <= bank.duration_s.numpy()[table.video]).all()


def test_the_json_is_what_json_writes(made: Path) -> None:
    content = json.loads((made / "ego4d" / "narration.json").read_text())
    for entry in content.values():
        for number in (1, 2):
            seconds = []
            for narration in entry[f"narration_pass_{number}"]["narrations"]:
                seconds.append(narration["timestamp_sec"])
                assert narration["timestamp_frame"] == int(1000 * narration["timestamp_sec"] + 0.5) * 30 // 1000
                assert len(narration["annotation_uid"].split("-")) == 5
            assert seconds == sorted(seconds)


def test_sentences_are_distinct_and_frequent_ones_short(made: Path) -> None:
    many = full_size.sentences(50_000).to_pylist()
    assert len(set(many)) == 50_000
    words = [len(text.split()) for text in many]
    assert min(words) == 5
    assert max(words) > 20
    assert max(words[:100]) < np.mean(words)
    with pytest.raises(InputError, match="lower distinct_texts"):
        full_size.sentences(10**9)


def test_parts_have_the_sum_and_at_least_one_each() -> None:
    weights = np.random.default_rng(0).lognormal(0, 2, 100)
    parts = full_size.apportion(weights, 1000)
    assert parts.sum() == 1000
    assert parts.min() >= 1
    assert (np.diff(parts[np.argsort(weights)]) >= 0).all()


def test_what_exists_is_kept_and_the_same_seed_makes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    names = ("ego4d/narration.json", "ego4d/ego4d.json", "clep/ego4d_features.h5")
    TINY.make(tmp_path, progress=False)
    assert (tmp_path / names[1]).read_bytes() == (made / names[1]).read_bytes()
    assert np.array_equal(*(FeatureBank.open(f / names[2]).take(np.arange(50)) for f in (tmp_path, made)))
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "dataset.part.json").write_text(json.dumps({"digest": TINY.digest(0)}))
    before = (tmp_path / names[2]).stat().st_mtime_ns
    (tmp_path / names[0]).unlink()
    TINY.make(tmp_path, progress=False)
    assert (tmp_path / names[2]).stat().st_mtime_ns == before
    assert (tmp_path / names[0]).exists()


def test_a_full_disk_is_noticed_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**6, 10**6))
    with pytest.raises(InputError, match=r"0\.0 GB of free disk space.*smaller fraction"):
        TINY.make(tmp_path, progress=False)
    assert not (tmp_path / "ego4d").exists()


@pytest.mark.parametrize("settings", [{"fraction": 0}, {"fraction": 1.5}, {"distinct_texts": -1}, {"dim": 0}])
def test_a_setting_out_of_range_is_named(settings: dict) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        SyntheticEgo4D(**settings)
