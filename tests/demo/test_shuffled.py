import json
from collections import Counter

import pytest

from clep.demo import shuffled_narrations, simulate_narrations
from clep.errors import InputError


def _slots(path):
    return [
        (uid, name, one["timestamp_sec"], one["annotation_uid"], one["narration_text"])
        for uid, entry in json.loads(path.read_text()).items()
        for name in ("narration_pass_1", "narration_pass_2")
        for one in entry[name]["narrations"]
    ]


def test_texts_are_dealt_out_anew_and_nothing_else_changes(tmp_path):
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
