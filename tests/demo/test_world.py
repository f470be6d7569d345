import json

import pytest
import torch

from clep.demo import EncoderSettings, WorldSettings, make_world, probe_ceiling, read_world
from clep.errors import InputError

_TINY = WorldSettings(
    training_videos=3,
    other_videos=5,
    shortest_s=20.0,
    longest_s=30.0,
    unseen_per_verb=1,
    kinetics_clips=1,
    charades_classes=12,
    charades_scripts=3,
    encoder=EncoderSettings(dim=32, hidden=16),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    return out, make_world(out, _TINY, seed=1, progress=False)


def _files(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_the_folder_is_laid_out_as_promised(world):
    out, figures = world
    names = {name for name in _files(out) if not name.endswith(".pt")}
    assert names == {
        ".world.json.lock",
        "world.json",
        "ego4d/narration.json",
        "ego4d/ego4d.json",
        "ego4d/features/simulated.json",
        "kinetics/val.csv",
        "kinetics/features/simulated.json",
        "ego_charades/CharadesEgo_v1_test.csv",
        "ego_charades/CharadesEgo_v1_train.csv",
        "ego_charades/Charades_v1_classes.txt",
        "ego_charades/features/simulated.json",
    }
    assert {path.stem for path in (out / "ego4d" / "features").glob("*.pt")} == {
        video["video_uid"] for video in json.loads((out / "ego4d" / "ego4d.json").read_text())["videos"]
    }
    assert figures["never_narrated_pairs"] == figures["kinetics_classes"] == figures["kinetics_clips"] == 30
    assert figures["videos"] == 9
    assert figures["ego_charades_videos"] == len(list((out / "ego_charades" / "features").glob("*.pt"))) == 6
    assert read_world(out)["figures"] == {name: value for name, value in figures.items() if name != "folder"}


def test_rows_are_on_the_clock_and_some_have_an_axis_more(world):
    out, _ = world
    shapes = set()
    for video in json.loads((out / "ego4d" / "ego4d.json").read_text())["videos"]:
        rows = torch.load(out / "ego4d" / "features" / f"{video['video_uid']}.pt", weights_only=True)
        assert len(rows) == 1 + -(-(video["video_metadata"]["num_frames"] - 32) // 16)
        assert rows.dtype == torch.float16
        shapes.add(tuple(rows.shape[1:]))
    assert shapes == {(32,), (1, 32)}


def test_a_whole_world_is_reused_and_one_of_other_settings_refused(world):
    out, figures = world
    before = _files(out)
    assert make_world(out, _TINY, seed=1, progress=False) == figures
    with pytest.raises(InputError, match=r"world\.json.*seed 1.*asked for 2"):
        make_world(out, _TINY, seed=2, progress=False)
    with pytest.raises(InputError, match="other settings"):
        make_world(out, seed=1, progress=False)
    assert _files(out) == before


def test_a_world_stopped_half_way_is_made_whole_and_equal(world, tmp_path, monkeypatch):
    out, _ = world
    with monkeypatch.context() as patch:
        patch.setattr("clep.demo.world.write_charades_classes", _stop)
        with pytest.raises(KeyboardInterrupt):
            make_world(tmp_path, _TINY, seed=1, progress=False)
    with pytest.raises(InputError, match=r"world\.json"):
        read_world(tmp_path)
    kept = next((tmp_path / "kinetics" / "features").glob("*.pt")).stat().st_mtime_ns
    make_world(tmp_path, _TINY, seed=1, progress=False)
    assert next((tmp_path / "kinetics" / "features").glob("*.pt")).stat().st_mtime_ns == kept
    assert _files(tmp_path) == _files(out)


def test_a_half_made_world_of_other_settings_is_replaced(world, tmp_path, monkeypatch):
    out, _ = world
    with monkeypatch.context() as patch:
        patch.setattr("clep.demo.world.write_charades_classes", _stop)
        with pytest.raises(KeyboardInterrupt):
            make_world(tmp_path, _TINY, seed=2, progress=False)
    make_world(tmp_path, _TINY, seed=1, progress=False)
    assert _files(tmp_path) == _files(out)


def test_data_of_others_is_not_touched(tmp_path):
    (tmp_path / "ego4d").mkdir()
    (tmp_path / "ego4d" / "narration.json").write_text("{}")
    with pytest.raises(InputError, match="no demo world made"):
        make_world(tmp_path, _TINY, progress=False)
    assert _files(tmp_path) == {".world.json.lock": b"", "ego4d/narration.json": b"{}"}


def test_the_probe_finds_its_way_around_a_world(world):
    found = probe_ceiling(world[0], clips_per_class=5)
    assert (found["classes"], found["train_clips"], found["test_clips"]) == (30, 150, 30)
    assert found["chance"] == pytest.approx(100 / 30)
    assert found["chance"] < found["top1"] <= 100
    assert probe_ceiling(world[0], clips_per_class=5) == found


def _stop(*_):
    raise KeyboardInterrupt
