"""The comparison with other libraries: those that are missing are left out with a reason, and never silently."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers, peers_loading, peers_objective
from benchmarks.ego4d_data import data_module, prepare

TOY = [
    "fraction=0.0003",
    "dim=8",
    "text_dim=4",
    "batch_size=16",
    "samples=64",
    "videos=60",
    "neighbours=5",
    "workers=1",
]
TOY += ["loss_batch=8", "loss_dim=16", "repeats=1", "film_s=2", "width=96", "height=64", "short_side_px=32"]


def test_peers_that_cannot_be_imported_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in ("open_clip", "faiss"):
        monkeypatch.setitem(sys.modules, name, None)
    for group, missing in (("loss", "open_clip"), ("hard_negatives", "faiss")):
        found = peers.main([*TOY, f"group={group}"])
        assert found["left_out"][missing].startswith("ModuleNotFoundError")
        assert found["median"][peers.OURS] > 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found


def test_faiss_finds_the_same_neighbours() -> None:
    pytest.importorskip("faiss")
    settings = peers.read_settings(peers.Settings, TOY)
    sides, unit, notes = peers_objective.neighbour_sides(settings, {})
    assert set(sides) == {peers.OURS, "faiss, exact"}
    assert notes["same_neighbours"] > 0.99
    assert unit == "videos/s"


def test_samples_are_those_of_the_data_module(tmp_path: Path) -> None:
    folder = prepare(tmp_path, 0.0003, 8, 4)
    module = data_module(folder, "disk", 16, 1)
    files = peers_loading.HDF5Moments(folder, peers_loading._samples(module, 32))
    assert len(files) == 32
    one = files[5]
    first, last, text = files.samples[5]
    dataset = module.parts[0]
    same = np.flatnonzero((dataset.moments.text_id == text) & (dataset._first.numpy() == first))
    batch = dataset.__getitems__([int(same[0])])
    assert last - first > 1
    assert one["video"].numpy() == pytest.approx(batch["video"][0].numpy(), abs=2e-3)
    assert np.array_equal(one["text"], batch["text"][0])
    assert len(list(files.every())) == 32
    assert not files._files


def test_a_failed_installation_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PEERS", {"none": ["none==1"], "faiss": []})
    refused = subprocess.CompletedProcess([], 1, "", "looking\nERROR: no matching distribution for none==1\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: refused)
    failed = peers.install(tmp_path)
    assert failed == {"none": "ERROR: no matching distribution for none==1"}
    assert not (tmp_path / "none" / "installed.txt").exists()


def test_a_comparison_that_does_not_exist_is_named() -> None:
    with pytest.raises(SystemExit, match="no comparison everything.*decoding"):
        peers.main(["groups=[everything]"])


@pytest.mark.slow
def test_the_whole_comparison_without_peers(tmp_path: Path) -> None:
    words = [
        *TOY,
        f"results={tmp_path}",
        f"data={tmp_path / 'data'}",
        "install=false",
        f"environment={tmp_path / 'none'}",
    ]
    result = peers.main(words)
    assert {result[group]["median"][peers.OURS] > 0 for group in peers.GROUPS} == {True}
    assert json.loads((tmp_path / "peers.json").read_text())["loading"]["median"]["HDF5, 1 workers"] > 0
