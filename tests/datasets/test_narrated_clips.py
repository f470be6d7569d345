"""Narration tables from csv files with spans: what is dropped, clamped and shared, and which cells are refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from clep.datasets.narrated_clips import NarratedClips, clip_table, counted
from clep.errors import InputError
from clep.text.narration_table import VideoMetadata


def clips(**changes: Any) -> NarratedClips:
    """Return four rows of two videos, with some columns replaced."""
    lines = pd.Index([2, 3, 4, 5])
    texts = ["#C C takes a cup", "#C C washes a cup", "#C C takes a cup", "#C C opens a tap"]
    columns: dict[str, Any] = {
        "video": pd.Series(["b", "a", "a", "b"], lines, name="video_uid"),
        "text": pd.Series(texts, lines, name="text"),
        "second": np.array([1.0, 6.0, 2.0, 9.0]),
        "start_s": np.array([-0.5, 5.0, 1.0, 8.0]),
        "end_s": np.array([1.5, 7.0, 3.0, 10.0]),
        "passes": np.array([1, 2, 1, 1], np.int8),
    }
    return NarratedClips(**{**columns, **changes})


def test_rows_are_sorted_and_starts_are_clamped() -> None:
    about = {"b": VideoMetadata(60.0, ("train", "", ""))}
    table = clip_table(clips(), "clips.csv", about, "raw")
    assert table.videos == ("a", "b")
    assert table.video.tolist() == [0, 0, 1, 1]
    assert table.second.tolist() == [2.0, 6.0, 1.0, 9.0]
    assert table.start_s is not None
    assert table.end_s is not None
    assert (table.start_s.tolist(), table.end_s.tolist()) == ([1.0, 5.0, 0.0, 8.0], [3.0, 7.0, 1.5, 10.0])
    assert table.passes.tolist() == [1, 2, 1, 1]
    assert np.isnan(table.duration_s[0])
    assert table.duration_s[1] == 60.0
    assert table.splits["split_em"].tolist() == ["", "train"]
    assert (table.verbs, table.nouns, table.report["bad_span"]) == (None, None, 0)


def test_rows_without_text_or_span_are_dropped_and_counted() -> None:
    text = pd.Series(["#C C takes a cup", " ", "#C C takes a cup", "#C C opens a tap"], [2, 3, 4, 5])
    table = clip_table(clips(text=text, end_s=np.array([1.5, 7.0, 1.0, np.nan])), "clips.csv", {}, "raw")
    assert (len(table), table.report["bad_span"], table.report["empty"]) == (1, 2, 1)
    assert list(table.texts) == ["#C C takes a cup"]


def test_rows_with_the_same_text_share_all_their_verbs_and_nouns() -> None:
    verbs = pd.Series(["[1]", "[4]", "[2, 1]", ""], [2, 3, 4, 5], name="verb")
    nouns = pd.Series(["[7]", "[]", "3", "[0]"], [2, 3, 4, 5], name="noun")
    table = clip_table(clips(verbs=verbs, nouns=nouns), "clips.csv", {}, "raw")
    assert table.verbs is not None
    assert table.nouns is not None
    of_texts = {text: (table.verbs[i], table.nouns[i]) for i, text in enumerate(table.texts)}
    assert of_texts == {
        "#C C takes a cup": ([1, 2], [3, 7]),
        "#C C washes a cup": ([4], []),
        "#C C opens a tap": ([], [0]),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video": pd.Series(["b", "a", "", "b"], [2, 3, 4, 5], name="video_uid")}, r"line 4: video_uid is empty"),
        (
            {
                "verbs": pd.Series(["[1]", "[1]", "cup", "[1]"], [2, 3, 4, 5], name="verb"),
                "nouns": pd.Series(["[1]"] * 4, [2, 3, 4, 5], name="noun"),
            },
            r"line 4: verb is 'cup', not a list of ids",
        ),
        ({"end_s": np.zeros(4)}, "holds no narration with a text and a span"),
        ({"text": pd.Series(["", " ", "", ""], [2, 3, 4, 5])}, "holds no narration with a text and a span"),
    ],
)
def test_what_is_refused_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"clips\.csv.*{message}"):
        clip_table(clips(**changes), "clips.csv", {}, "raw")


def test_skipped_lines_are_counted_and_the_first_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    table = clip_table(clips(), "clips.csv", {}, "raw")
    assert "bad_line" not in counted(table, None).report
    assert (counted(table, []).report["bad_line"], caplog.text) == (0, "")
    assert counted(table, ["line 7: 3 cells", "line 9: 2 cells"]).report["bad_line"] == 2
    assert "dropped 2 rows" in caplog.text
    assert "line 7: 3 cells" in caplog.text
