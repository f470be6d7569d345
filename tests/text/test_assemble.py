"""`assemble` with spans and groups, which `read_ego4d` does not use; the rest is tested there."""

import numpy as np
import pytest

from clep.text.narration_table import assemble
from clep.text.narrations import Narrations
from clep.text.tags import remove_tags, substitute_tags


def test_spans_and_groups_follow_their_narrations(tmp_path) -> None:
    table = assemble(
        videos=["b", "a"],
        redacted=np.array([False, True]),
        about={},
        video=np.array([0, 1, 0, 1], dtype=np.int32),
        second=np.array([5.0, 9.0, 2.0, 1.0]),
        passes=np.ones(4, dtype=np.int8),
        written=["#C C cuts", "  ", "#c c cuts", "#C C mixes"],
        written_id=np.array([0, 1, 2, 3], dtype=np.int32),
        tag_style="clean",
        spans=(np.array([4.0, 8.0, 1.5, 0.0]), np.array([6.0, 10.0, 2.5, 2.0])),
        groups=([[3], [9], [1, 3], []], [[], [], [2], [5]]),
    )
    table.write(tmp_path / "narrations.arrow")
    for read in (table, Narrations.open(tmp_path / "narrations.arrow")):
        assert read.videos == ("a", "b")
        assert read.redacted.tolist() == [True, False]
        assert read.second.tolist() == [1.0, 2.0, 5.0]
        assert read.start_s.tolist() == [0.0, 1.5, 4.0]
        assert read.end_s.tolist() == [2.0, 2.5, 6.0]
        assert list(read.texts) == ["Camera wearer mixes", "Camera wearer cuts"]
        assert read.text_id.tolist() == [0, 1, 1]
        assert [read.verbs[i] for i in range(2)] == [[], [1, 3]]  # ids of both spellings of "cuts"
        assert [read.nouns[i] for i in range(2)] == [[5], [2]]
        assert read.report["empty"] == 1


@pytest.mark.parametrize(
    ("style", "texts", "empty"),
    [
        ("clean", ["Camera wearer cuts it", "Camera wearer"], 1),
        ("raw", ["#C C cuts  it", "#C"], 1),
        ("none", ["cuts it"], 2),
    ],
)
def test_summaries_and_empty_texts_are_dropped_and_counted(style: str, texts: list[str], empty: int) -> None:
    table = assemble(
        videos=["a"],
        redacted=np.array([False]),
        about={},
        video=np.zeros(5, dtype=np.int32),
        second=np.arange(5.0),
        passes=np.ones(5, dtype=np.int8),
        written=["#C C cuts  it", "#Summary C cooked a meal", "#C", " ", "#summary"],
        written_id=np.arange(5, dtype=np.int32),
        tag_style=style,
    )
    assert list(table.texts) == texts
    assert table.report == {"empty": empty, "summary": 2}


@pytest.mark.parametrize("style", ["clean", "tutorial", "raw", "none"])
def test_blocks_of_texts_give_what_each_text_gives(monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    """Against a dictionary that is filled text by text; one written text is used by no narration."""
    written = [f"#C C {verb} {i % 5}  times" for i in range(9) for verb in ("cuts", "peels")] + ["#O A man X waits", ""]
    written_id = np.array([17, 3, 3, 18, 12, *range(17), 19], dtype=np.int32)
    expected: dict[str, int] = {}
    ids = []
    for i in written_id[:-1].tolist():
        text = substitute_tags(written[i], style)
        text = text if style == "raw" else " ".join(text.split())
        ids.append(expected.setdefault(text, len(expected)))
    monkeypatch.setattr("clep.text.narration_table._TEXTS_AT_ONCE", 4)
    n = len(written_id)
    table = assemble(
        videos=["a"],
        redacted=np.array([False]),
        about={},
        video=np.zeros(n, dtype=np.int32),
        second=np.arange(float(n)),
        passes=np.ones(n, dtype=np.int8),
        written=written,
        written_id=written_id,
        tag_style=style,
    )
    assert list(table.texts) == list(expected)
    assert table.text_id.tolist() == ids
    assert [table.written[i] for i in table.written_id] == [written[i] for i in written_id[:-1]]
    words = [len(remove_tags(written[i]).split()) for i in written_id[:-1]]
    assert table.words.tolist() == words
