import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from clep.datasets.ego4d import read_ego4d
from clep.errors import InputError
from clep.text import Narrations, training_moments
from tests.text.sample_table import about, passes, table


def test_rows_are_sorted_and_texts_shared(tmp_path: Path) -> None:
    made = table(
        tmp_path,
        {
            "b": passes([(9.0, "#C C cuts bread"), (2.0, "#C C cuts  bread")], [(2.0, "C C cuts bread")]),
            "a": passes(None, [(5.5, "#O man X waves")]),
        },
        [about("b", 10, em="train", av="val"), about("a", None)],
    )
    assert made.videos == ("a", "b")
    assert made.video.tolist() == [0, 1, 1, 1]
    assert made.second.tolist() == [5.5, 2.0, 2.0, 9.0]
    assert made.passes.tolist() == [2, 1, 2, 1]
    assert list(made.texts) == ["man waves", "Camera wearer cuts bread"]
    assert made.text_id.tolist() == [0, 1, 1, 1]
    assert list(made.written) == ["#O man X waves", "#C C cuts  bread", "C C cuts bread", "#C C cuts bread"]
    assert made.written_id.tolist() == [0, 1, 2, 3]
    assert made.words.tolist() == [2, 2, 2, 2]
    assert np.isnan(made.duration_s[0])
    assert made.duration_s[1] == 10
    assert made.splits["split_em"].tolist() == ["", "train"]
    assert made.splits["split_av"].tolist() == ["", "val"]
    assert made.splits["split_fho"].tolist() == ["", ""]


def test_the_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    rows = [(float(t), f"#C C cuts number {t % 7}") for t in range(40)]
    straight = table(tmp_path / "1", {"a": passes(rows), "b": passes(rows[:5], rows[5:])})
    turned = table(tmp_path / "2", {"b": passes(rows[:5][::-1], rows[5:][::-1]), "a": passes(rows[::-1])})
    assert straight.digest == turned.digest
    for name in ("video", "second", "passes", "text_id", "written_id"):
        np.testing.assert_array_equal(getattr(straight, name), getattr(turned, name))


def test_the_style_is_applied_to_texts_only(tmp_path: Path) -> None:
    narrations = {"a": passes([(1.0, "#C C cuts  bread"), (2.0, "#C cuts bread")])}
    clean, tutorial = table(tmp_path, narrations), table(tmp_path, narrations, tag_style="tutorial")
    assert list(clean.texts) == ["Camera wearer cuts bread"]
    assert list(tutorial.texts) == ["Camera wearer C cuts bread", "Camera wearer cuts bread"]
    assert clean.written == tutorial.written
    assert clean.digest != tutorial.digest


def test_dropped_narrations_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "narration.json"
    narrations = {
        "a": passes(
            [
                (1, ""),
                (2, "  \t"),
                (3, None),
                (4, " - "),
                (-0.5, "#C C is early"),
                (None, "#C C is lost"),
                (5, "#C C cuts"),
            ],
            [(float("nan"), "#C C cuts"), (float("inf"), "#C C cuts"), (120.0, "#C C is late")],
        ),
        "gone": passes(status="redacted"),
        "bare": {"status": "complete", "narration_pass_1": None, "narration_pass_2": {"narrations": None}},
        "new": passes([(0, "#C C begins")]),
    }
    with caplog.at_level(logging.WARNING):
        made = table(tmp_path, narrations, [about("a"), about("gone"), about("bare"), about("old")])
    assert "NaN" in path.read_text()
    assert len(made) == 3
    expected = {
        "videos": 4,
        "narrations": 3,
        "empty": 4,
        "bad_time": 4,
        "after_end": 1,
        "redacted_videos": 1,
        "without_narrations": 2,
        "without_metadata": 1,
        "only_metadata": 1,
    }
    assert expected.items() <= made.report.items()
    assert made.redacted.tolist() == [False, False, True, False]
    assert "1 of 4 videos" in caplog.text
    assert "4 narrations without text and 4 whose time" in caplog.text


def test_without_ego4d_json(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = table(tmp_path, {"a": passes([(1, "#C C cuts")])})
    assert np.isnan(made.duration_s).all()
    assert all(split.tolist() == [""] for split in made.splits.values())
    assert "without ego4d.json" in caplog.text


@pytest.mark.parametrize("narrations", [{}, {"a": passes()}, {"a": {}}, {"a": passes([], [])}])
def test_no_narrations_at_all(tmp_path: Path, narrations: dict) -> None:
    made = table(tmp_path, narrations, [])
    assert len(made) == len(made.texts) == 0
    made.write(tmp_path / "n.arrow")
    opened = Narrations.open(tmp_path / "n.arrow")
    assert len(opened) == len(opened.texts) == len(opened.video) == 0
    assert opened.videos == made.videos
    assert training_moments(opened)[0].tolist() == []


BAD = {
    "a list": ([], "is not a JSON object"),
    "a video that is a list": ({"u1": []}, "u1 must be a JSON object"),
    "another schema": ({"videos": {"u1": {}}}, "'videos' has neither 'status' nor 'narration_pass_1', but 'u1'"),
    "a pass that is a list": ({"u1": {"narration_pass_1": []}}, "u1.narration_pass_1 must be a JSON object"),
    "narrations that are text": ({"u1": {"narration_pass_2": {"narrations": "x"}}}, "u1.narration_pass_2.narrations"),
    "no timestamp": (
        {"u1": {"narration_pass_1": {"narrations": [{"narration_text": "x"}]}}},
        r"u1\.narration_pass_1\.narrations\[0\] needs 'timestamp_sec'",
    ),
    "no text": (
        {"u1": {"narration_pass_1": {"narrations": [{"timestamp_sec": 1}]}}},
        r"narrations\[0\] needs .*'narration_text'",
    ),
    "a time in words": (
        {"u1": passes([(1, "x"), ("2.0", "x")])},
        r"narrations\[1\] needs 'timestamp_sec' \(a number\)",
    ),
    "a text that is a number": ({"u1": passes([(1, 3)])}, r"narrations\[0\] needs"),
    "a narration that is text": ({"u1": {"narration_pass_1": {"narrations": ["x"]}}}, r"narrations\[0\] needs"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_schema_is_refused_by_file_video_and_key(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    with pytest.raises(InputError, match=rf"narration\.json.*{message}"):
        table(tmp_path, content)


def test_a_duplicate_video_and_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "narration.json"
    one = json.dumps(passes([(1, "x")]))
    path.write_text(f'{{"u1": {one}, "u1": {one}}}')
    with pytest.raises(InputError, match="narration.json .*duplicate key 'u1'"):
        read_ego4d(path)
    path.write_text(f'{{"u1": {one}, "u2": {one[:-30]}')
    with pytest.raises(InputError, match=r"narration\.json is not valid JSON after the member 'u1'.*fetch it again"):
        read_ego4d(path)
    with pytest.raises(InputError, match="tag_style='other'"):
        read_ego4d(path, tag_style="other")
    with pytest.raises(InputError, match=r"absent\.json does not exist"):
        read_ego4d(tmp_path / "absent.json")


@pytest.mark.skipif("CLEP_SAMPLE_DATA" not in os.environ, reason="CLEP_SAMPLE_DATA names no folder of sample inputs")
def test_real_narrations(tmp_path: Path) -> None:
    folder = Path(os.environ["CLEP_SAMPLE_DATA"]) / "ego4d_format"
    made = read_ego4d(folder / "narration.json", folder / "ego4d.json")
    content = json.loads((folder / "narration.json").read_text())
    rows = sorted(
        (uid, narration["timestamp_sec"], narration["narration_text"])
        for uid, video in content.items()
        for narration in video["narration_pass_1"]["narrations"]
    )
    read = [
        (made.videos[v], s, made.written[w])
        for v, s, w in zip(made.video, made.second.tolist(), made.written_id, strict=True)
    ]
    assert sorted(read) == rows
    assert (len(made), len(made.written), len(made.videos)) == (38_140, 11_068, 410)
    assert all(text.startswith("Camera wearer ") and "#" not in text for text in made.texts)
    assert training_moments(made)[1]["split"] == 9_668
