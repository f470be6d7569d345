import csv
import json
from collections import Counter

import pytest
import torch

from clep.demo import (
    EncoderSettings,
    shuffled_narrations,
    simulate_ego_charades,
    simulate_features,
    simulate_kinetics,
    simulate_narrations,
)
from clep.demo.annotation_files import video_metadata, write_ego4d_json, write_narration_json
from clep.demo.simulate import _action_spans
from clep.errors import InputError

_SMALL = EncoderSettings(dim=16)


def _pass(*narrations):
    return {"narrations": [{"timestamp_sec": second, "narration_text": text} for second, text in narrations]}


@pytest.fixture
def ego4d(tmp_path):
    entries = {
        "b": {"status": "complete", "narration_pass_1": _pass((9.0, "#C C stirs the soup"), (3.0, "#C C opens a tin"))},
        "a": {"status": "complete", "narration_pass_2": _pass((1.0, "#C C walks"))},
        "c": {"status": "redacted"},
    }
    write_narration_json(tmp_path / "narration.json", entries.items())
    write_ego4d_json(tmp_path / "ego4d.json", [video_metadata(uid, 20.0, 0) for uid in "abc"])
    return tmp_path


def test_features_for_an_existing_narration_json(ego4d):
    call = (ego4d / "narration.json", ego4d / "ego4d.json", ego4d / "features")
    assert simulate_features(*call, limit=1, settings=_SMALL, progress=False) == {"written": 1, "kept": 0}
    assert [path.name for path in (ego4d / "features").glob("*.pt")] == ["a.pt"]
    before = (ego4d / "features" / "a.pt").read_bytes()
    assert simulate_features(*call, settings=_SMALL, progress=False) == {"written": 2, "kept": 1}
    assert (ego4d / "features" / "a.pt").read_bytes() == before
    rows = {uid: torch.load(ego4d / "features" / f"{uid}.pt", weights_only=True) for uid in "abc"}
    assert {uid: tuple(value.shape) for uid, value in rows.items()} == dict.fromkeys("abc", (37, 16))
    assert rows["a"].dtype == torch.float32
    again = (*call[:2], ego4d / "again")
    simulate_features(*again, settings=_SMALL, progress=False)
    torch.testing.assert_close(torch.load(ego4d / "again" / "b.pt", weights_only=True), rows["b"], rtol=0, atol=0)


def test_a_video_without_duration_is_named(ego4d):
    write_ego4d_json(ego4d / "ego4d.json", [video_metadata(uid, 20.0, 0) for uid in "ac"])
    with pytest.raises(InputError, match=r"ego4d\.json.*1 of 3.*'b'"):
        simulate_features(ego4d / "narration.json", ego4d / "ego4d.json", ego4d / "features", progress=False)


def test_wrong_files_are_named(ego4d):
    with pytest.raises(InputError, match=r"nothing\.json"):
        simulate_features(ego4d / "nothing.json", ego4d / "ego4d.json", ego4d / "features", progress=False)
    with pytest.raises(InputError, match="videos"):
        simulate_features(ego4d / "narration.json", ego4d / "narration.json", ego4d / "features", progress=False)


def test_an_action_lasts_to_halfway_between_neighbours_of_its_pass():
    entry = {
        "narration_pass_1": _pass((10.0, "#C C cuts"), (8.0, "#C C opens"), (20.0, "#C C closes")),
        "narration_pass_2": _pass((9.0, "#C C wipes")),
        "status": "complete",
    }
    spans = {one.action.verb: (one.start_s, one.end_s) for one in _action_spans(entry, 21.0)}
    assert spans == {"open": (6.5, 9.0), "cut": (9.0, 11.5), "clos": (18.5, 21.0), "wip": (7.5, 10.5)}
    assert _action_spans({"status": "redacted"}, 20.0) == []


def test_kinetics_of_any_label(tmp_path):
    lines = [("playing guitar", "-abc_DEFgh1", 7, 17, "val", 0), ('"cooking" egg', "zzz", 0, 9, "val", 1)]
    with (tmp_path / "val.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "youtube_id", "time_start", "time_end", "split", "is_cc"), *lines])
    out = tmp_path / "features"
    assert simulate_kinetics(tmp_path / "val.csv", out, settings=_SMALL, progress=False)["written"] == 2
    assert torch.load(out / "-abc_DEFgh1_000007_000017.pt", weights_only=True).shape == (18, 16)
    assert torch.load(out / "zzz_000000_000009.pt", weights_only=True).shape == (16, 16)
    (tmp_path / "bad.csv").write_text("label,youtube_id\nx,y\n")
    with pytest.raises(InputError, match=r"bad\.csv.*time_start"):
        simulate_kinetics(tmp_path / "bad.csv", out, settings=_SMALL, progress=False)


def test_charades_from_outside_looks_different(tmp_path):
    (tmp_path / "classes.txt").write_text("c000 Opening a door\nc001 Someone is cooking something\n")
    table = tmp_path / "test.csv"
    table.write_text(
        "id,scene,actions,length,egocentric\nAB1CDEGO,Kitchen,c000 0.00 9.00,10.0,Yes\n"
        "AB1CD,Kitchen,c000 0.00 9.00,10.0,No\nZZ1CD,Kitchen,,10.0,No\n"
    )
    quiet = EncoderSettings(dim=16, jitter=0.0, bias=0.0, drift=0.0, row_noise=0.0)
    simulate_ego_charades(table, tmp_path / "classes.txt", tmp_path / "f", settings=quiet, progress=False)
    ego, exo, none = (torch.load(tmp_path / "f" / f"{i}.pt", weights_only=True) for i in ("AB1CDEGO", "AB1CD", "ZZ1CD"))
    assert ego.shape == exo.shape == none.shape == (18, 16)
    assert not torch.allclose(ego[8], exo[8], atol=0.05)
    assert not torch.allclose(exo[8], none[8], atol=0.05)
    table.write_text("id,scene,actions,length,egocentric\nQQ1CD,Kitchen,c007 0.00 9.00,10.0,Yes\n")
    with pytest.raises(InputError, match="c007"):
        simulate_ego_charades(table, tmp_path / "classes.txt", tmp_path / "f", settings=quiet, progress=False)


def test_narration_files_of_any_size(tmp_path):
    assert simulate_narrations(tmp_path, 7, 1001) == {"videos": 7, "narrations": 1001}
    narrated = json.loads((tmp_path / "narration.json").read_text())
    metadata = {video["video_uid"]: video for video in json.loads((tmp_path / "ego4d.json").read_text())["videos"]}
    assert set(narrated) == set(metadata)
    counts = Counter()
    for uid, entry in narrated.items():
        for name in ("narration_pass_1", "narration_pass_2"):
            counts[uid] += len(entry[name]["narrations"])
            assert all(0 <= one["timestamp_sec"] <= metadata[uid]["duration_sec"] for one in entry[name]["narrations"])
    assert sum(counts.values()) == 1001
    assert max(counts.values()) - min(counts.values()) <= 2
    with pytest.raises(InputError, match="n_narrations=.* at least 2 per video"):
        simulate_narrations(tmp_path, 7, 13)


def _slots(path):
    return [
        (uid, name, one["timestamp_sec"], one["annotation_uid"], one["narration_text"])
        for uid, entry in json.loads(path.read_text()).items()
        for name in ("narration_pass_1", "narration_pass_2")
        for one in entry[name]["narrations"]
    ]


def test_texts_are_permuted_and_nothing_else_changes(tmp_path):
    simulate_narrations(tmp_path, 4, 400)
    source, target = tmp_path / "narration.json", tmp_path / "shuffled" / "narration.json"
    assert shuffled_narrations(source, target) == 400
    before, after = _slots(source), _slots(target)
    assert [slot[:4] for slot in before] == [slot[:4] for slot in after]
    assert Counter(slot[4] for slot in before) == Counter(slot[4] for slot in after)
    assert sum(a[4] == b[4] for a, b in zip(before, after, strict=True)) < 20
    video_of = {slot[4]: slot[0] for slot in before}
    assert sum(video_of[slot[4]] != slot[0] for slot in after) > 200, "texts move between videos"
    again = tmp_path / "again.json"
    shuffled_narrations(source, again)
    assert again.read_bytes() == target.read_bytes()
    shuffled_narrations(source, again, seed=1)
    assert again.read_bytes() != target.read_bytes()


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"narration\.json"):
        shuffled_narrations(tmp_path / "narration.json", tmp_path / "out.json")


def test_entries_without_passes(tmp_path):
    (tmp_path / "narration.json").write_text('{"a": {"status": "redacted"}, "b": {"narration_pass_1": null}}')
    assert shuffled_narrations(tmp_path / "narration.json", tmp_path / "out.json") == 0
