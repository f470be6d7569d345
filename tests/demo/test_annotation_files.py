import csv
import json
from collections import Counter

import numpy as np

from clep.demo.annotation_files import (
    charades_pairs,
    narration_pass,
    random_uid,
    video_metadata,
    write_charades_classes,
    write_charades_csv,
    write_ego4d_json,
    write_kinetics,
    write_narration_json,
)
from clep.demo.grammar import kinetics_label

_PAIRS = [(verb, noun) for verb in range(30) for noun in range(verb % 5, 40, 6)]
_VIDEO = """video_uid duration_sec scenarios video_metadata split_em split_av split_fho s3_path origin_video_id
video_source device physical_setting_name fb_participant_id is_stereo has_imu has_gaze imu_s3_path imu_manifold_path
gaze_s3_path
gaze_manifold_path video_components concurrent_sets has_redacted_regions redacted_intervals gaps"""
_WHOLE = "date version description videos concurrent_video_sets physical_settings clips"
_NARRATION = "timestamp_sec timestamp_frame _unmapped_timestamp_sec narration_text annotation_uid"
_STREAM = """fps num_frames video_codec display_resolution_width display_resolution_height sample_resolution_width
sample_resolution_height mp4_duration_sec video_start_sec video_duration_sec audio_start_sec audio_duration_sec
video_start_pts video_duration_pts video_base_numerator video_base_denominator audio_start_pts audio_duration_pts
audio_base_numerator audio_base_denominator"""
_COMPONENT = """video_component_uid video_uid component_idx redacted canonical_video_start_sec canonical_video_end_sec
canonical_video_start_frame canonical_video_end_frame video_metadata"""


def test_metadata_has_the_keys_of_the_official_schema(tmp_path):
    video = video_metadata("u", 39 / 30, 0, split_em="val", redacted=True)
    assert set(video) == set(_VIDEO.split())
    assert set(video["video_metadata"]) == set(_STREAM.split())
    assert set(video["video_components"][0]) == set(_COMPONENT.split())
    assert set(video["redacted_intervals"][0]) == {"start_sec", "end_sec", "start_frame", "end_frame"}
    assert video["video_metadata"]["num_frames"] == 39
    write_ego4d_json(tmp_path / "ego4d.json", [video])
    whole = json.loads((tmp_path / "ego4d.json").read_text())
    assert set(whole) == set(_WHOLE.split())
    assert whole["videos"] == [video]


def test_a_pass_has_the_keys_of_the_official_schema():
    made = narration_pass(np.random.default_rng(0), [3.5, 1.25], ["#C C opens", "#C C é"], 60.0)
    assert set(made) == {"narrations", "summaries"}
    assert [narration["timestamp_sec"] for narration in made["narrations"]] == [3.5, 1.25]
    assert [narration["timestamp_frame"] for narration in made["narrations"]] == [105, 37]
    assert set(made["narrations"][0]) == set(_NARRATION.split())
    assert set(made["summaries"][0]) == {"start_sec", "end_sec", "summary_text", "annotation_uid"}


def test_narrations_are_written_one_at_a_time_and_read_as_one_object(tmp_path):
    entries = [("a", {"status": "complete"}), ("b", {"narration_pass_1": {"narrations": [{"narration_text": "é"}]}})]
    write_narration_json(tmp_path / "narration.json", iter(entries))
    assert json.loads((tmp_path / "narration.json").read_text(encoding="utf-8")) == dict(entries)
    write_narration_json(tmp_path / "empty.json", [])
    assert json.loads((tmp_path / "empty.json").read_text()) == {}


def test_a_stopped_write_leaves_nothing(tmp_path):
    def entries():
        yield "a", {}
        raise KeyboardInterrupt

    try:
        write_narration_json(tmp_path / "narration.json", entries())
    except KeyboardInterrupt:
        assert list(tmp_path.iterdir()) == []


def test_uids():
    rng = np.random.default_rng(0)
    uids = {random_uid(rng) for _ in range(100)}
    assert len(uids) == 100
    assert {len(uid) for uid in uids} == {36}
    assert {uid[14] for uid in uids} == {"4"}


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_kinetics_csv_is_in_the_official_form(tmp_path):
    assert write_kinetics(tmp_path / "val.csv", _PAIRS[:20], 3, seed=0) == 60
    header, *lines = _read(tmp_path / "val.csv")
    assert header == ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
    assert Counter(line[0] for line in lines) == {kinetics_label(*pair): 3 for pair in _PAIRS[:20]}
    assert [line[0] for line in lines] != sorted(line[0] for line in lines)
    assert len({line[1] for line in lines}) == 60
    for _, youtube_id, start, end, split, is_cc in lines:
        assert len(youtube_id) == 11
        assert int(end) - int(start) == 10
        assert (split, is_cc in "01") == ("val", True)
    again = tmp_path / "again.csv"
    write_kinetics(again, _PAIRS[:20], 3, seed=0)
    assert again.read_bytes() == (tmp_path / "val.csv").read_bytes()


def test_charades_classes_mix_unseen_and_seen_pairs(tmp_path):
    pairs = charades_pairs(_PAIRS, 157, seed=0)
    assert len(set(pairs)) == 157
    assert sum(pair in set(_PAIRS) for pair in pairs) == 105
    write_charades_classes(tmp_path / "classes.txt", pairs)
    lines = (tmp_path / "classes.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"c{i:03d}" for i in range(157)]
    assert len({line.split(" ", 1)[1] for line in lines}) == 157
    assert sum(" Someone is " in line for line in lines) == 15


def test_charades_csv_is_in_the_official_form(tmp_path):
    assert write_charades_csv(tmp_path / "test.csv", _PAIRS[:50], 60, seed=0) == 120
    header, *lines = _read(tmp_path / "test.csv")
    assert ",".join(header) == (
        "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length,egocentric,charades_video"
    )
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    ids = {row["id"]: row for row in rows}
    assert len(ids) == 120
    unlabelled = 0
    for row in rows:
        first_person = row["id"].endswith("EGO")
        assert (row["egocentric"] == "Yes") == first_person
        assert row["id"].removesuffix("EGO") in ids
        if not row["actions"]:
            unlabelled += 1
            continue
        keys = []
        for item in row["actions"].split(";"):
            key, start, end = item.split(" ")
            assert 0 <= float(start) < float(end) <= float(row["length"]) + 0.01
            assert int(key[1:]) < 50
            keys.append(key)
        assert 4 <= len(keys) <= 8
        other = ids[row["id"].removesuffix("EGO") if first_person else row["id"] + "EGO"]
        assert not other["actions"] or sorted(item.split()[0] for item in other["actions"].split(";")) == sorted(keys)
    assert unlabelled == 2
