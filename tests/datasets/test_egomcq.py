"""EgoMCQ's questions: one sentence, several clips."""

import json
from pathlib import Path

import numpy as np
import pytest

from clep.datasets.egomcq import read_egomcq
from clep.errors import InputError


def clip(video: str, start_s: float, end_s: float, text: str = "#C C walks") -> dict[str, object]:
    extra = {"narration_source": "narration_pass_1", "tag_verb": "[93]", "tag_noun": "[]"}
    return {"video_uid": video, "clip_start": start_s, "clip_end": end_s, "clip_text": text, **extra}


def questions() -> dict[str, dict]:
    a, b, c = clip("a", -0.5, 1.25), clip("b", 3, 4.5), clip("a", 7, 8)
    rest = [clip("d", start, start + 1) for start in range(3)]
    opens, sits = clip("b", 3, 4.5, "#C C opens the jar"), clip("a", 7, 8, "#C C sits")
    return {
        "0": {"query": opens, "choices": numbered(a, b, *rest), "answer": 1, "types": 1},
        "1": {"query": sits, "choices": numbered(a, c, *rest), "answer": 1, "types": 2},
    }


def numbered(*clips: dict[str, object]) -> dict[str, dict[str, object]]:
    return {str(number): one for number, one in enumerate(clips)}


def write(folder: Path, content: object) -> Path:
    path = folder / "egomcq.json"
    path.write_text(json.dumps(content))
    return path


def test_a_clip_that_several_questions_share_is_one_clip(tmp_path: Path) -> None:
    found = read_egomcq(write(tmp_path, questions()))
    assert found.sentences == ["#C C opens the jar", "#C C sits"]
    assert found.clips.ids == ["a_0_1250", "b_3000_4500", "d_0_1000", "d_1000_2000", "d_2000_3000", "a_7000_8000"]
    assert found.clips.videos == ("a", "b", "d", "d", "d", "a")
    np.testing.assert_array_equal(found.clips.start_s, [0, 3, 0, 1, 2, 7])  # a start below 0 is 0
    np.testing.assert_array_equal(found.choices, [[0, 1, 2, 3, 4], [0, 5, 2, 3, 4]])
    assert (found.answer.tolist(), found.kind.tolist()) == ([1, 1], [1, 2])


def test_choices_are_read_by_their_number_not_by_their_order(tmp_path: Path) -> None:
    content = questions()
    content["0"]["choices"] = dict(reversed(content["0"]["choices"].items()))
    found = read_egomcq(write(tmp_path, content))
    assert [found.clips.ids[i] for i in found.choices[0, :2]] == ["a_0_1250", "b_3000_4500"]


@pytest.mark.parametrize(
    ("question", "change", "message"),
    [
        ("0", {"answer": 5}, "question '0' cannot be used: answer 5 of 5 choices"),
        ("1", {"types": 3}, "question '1' cannot be used: .*type 3"),
        ("0", {"choices": {key: clip("a", 1, 2) for key in "02345"}}, "question '0' cannot be used: it has no '1'"),
        ("1", {"query": clip("a", 7, 8, " ")}, "clip_text of its query is empty"),
        ("1", {"choices": {key: clip("a", 5, 5) for key in "01234"}}, "its clip of a spans 5 to 5 s"),
        ("1", {"choices": {"0": clip("a", 5, 6)}}, "question '1' cannot be used: it has 1 choices, but EgoMCQ has 5"),
        ("0", {"answer": 0.5}, "question '0' cannot be used: its answer is 0.5, not a whole number"),
        ("0", {"answer": None}, "its answer is None, not a whole number"),
        ("1", {"types": "intra"}, "its types is 'intra', not a whole number"),
        ("1", {"choices": [clip("a", 1, 2), clip("a", 2, 3)]}, "its choices are not an object of clips by number"),
    ],
)
def test_a_wrong_question_is_named(tmp_path: Path, question: str, change: dict, message: str) -> None:
    content = questions()
    content[question] |= change
    with pytest.raises(InputError, match=message):
        read_egomcq(write(tmp_path, content))


def test_questions_with_four_choices_everywhere_are_refused_with_the_evaluator_for_them(tmp_path: Path) -> None:
    content = questions()
    for question in content.values():
        del question["choices"]["4"]
    with pytest.raises(InputError, match="question '0' .*4 choices, but EgoMCQ has 5.*evaluator=multiple_choice"):
        read_egomcq(write(tmp_path, content))


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not EgoMCQ's file"):
        read_egomcq(write(tmp_path, [1, 2]))
