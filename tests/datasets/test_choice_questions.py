import json
from pathlib import Path

import numpy as np
import pytest

from clep.datasets.choice_questions import ChoiceQuestions, Question, read_choices, read_questions, write_questions
from clep.errors import InputError

QUESTIONS = [
    Question("v1", 0.5, 2.0, "inter", ("#C C opens it", "#C C cuts it"), 1),
    Question("v2", 1.0, 3.0, "intra", ("#C C cuts it", "#C C washes it", "#C C opens it"), 0),
]


def table(folder: Path, text: str) -> ChoiceQuestions:
    path = folder / "questions.csv"
    path.write_text(text)
    return read_choices(path)


def asked(questions: ChoiceQuestions) -> list[tuple[str, list[str], str]]:
    """The query, the choices and the answer of each question, by name."""
    queries, choices = questions.spans.ids, questions.sentences
    if questions.chooses_clip:
        queries, choices = choices, queries
    rows = zip(questions.query, questions.choices, questions.answer, strict=True)
    return [(queries[query], [choices[i] for i in some if i >= 0], choices[some[best]]) for query, some, best in rows]


def test_a_file_of_questions_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    write_questions(path, QUESTIONS)
    assert read_questions(path) == QUESTIONS
    assert len(json.loads(path.read_text())["sentences"]) == 3
    questions = read_choices(path)
    assert [answer for _, _, answer in asked(questions)] == ["#C C cuts it", "#C C cuts it"]
    assert questions.counts.tolist() == [2, 3]
    assert (questions.videos, list(questions.group)) == (["v1", "v2"], ["inter", "intra"])
    assert questions.spans.end_s.tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    "wrong",
    [
        QUESTIONS[0]._replace(answer=2),
        QUESTIONS[0]._replace(answer=-1),
        QUESTIONS[0]._replace(choices=("one",), answer=0),
        QUESTIONS[0]._replace(choices=("one", "one"), answer=0),
        QUESTIONS[0]._replace(start_s=2.0),
        QUESTIONS[0]._replace(start_s=-1.0),
    ],
)
def test_an_invalid_question_is_refused_by_its_index(tmp_path: Path, wrong: Question) -> None:
    path = tmp_path / "questions.json"
    write_questions(path, [QUESTIONS[1], wrong])
    with pytest.raises(InputError, match=r"questions.json.*question 1 "):
        read_questions(path)


def test_an_index_may_have_a_fraction_of_zero(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("clip,choices,answer\na,cuts|washes,1.0\nb,cuts|washes,0\n")
    assert read_choices(tmp_path / "x.csv").answer.tolist() == [1, 0]


def test_sentences_about_a_clip(tmp_path: Path) -> None:
    questions = table(tmp_path, "clip,choices,answer\na,opens | cuts,cuts\nb,cuts|opens|washes,2\n")
    assert asked(questions) == [("a", ["opens", "cuts"], "cuts"), ("b", ["cuts", "opens", "washes"], "washes")]
    assert questions.clips.tolist() == [[0], [1]]


def test_choices_in_columns_may_be_fewer_in_some_rows(tmp_path: Path) -> None:
    text = "video,start,end,choice1,choice2,choice3,answer,group\nv,0,1,opens,cuts,,opens,near\nv,1,2,a|b,b,c,1,far\n"
    questions = table(tmp_path, text)
    assert asked(questions) == [("v_0_1000", ["opens", "cuts"], "opens"), ("v_1000_2000", ["a|b", "b", "c"], "b")]
    assert list(questions.group) == ["near", "far"]


def test_clips_for_a_sentence(tmp_path: Path) -> None:
    questions = table(tmp_path, "query,choices,answer\nopens,a|b,b\ncuts,v@0-1.5|b,0\n")
    assert questions.chooses_clip
    assert asked(questions) == [("opens", ["a", "b"], "b"), ("cuts", ["v_0_1500", "b"], "v_0_1500")]
    assert questions.videos == ["a", "v"]
    np.testing.assert_equal(questions.spans.end_s, [np.nan, np.nan, 1.5])


def test_a_span_may_be_written_in_several_ways(tmp_path: Path) -> None:
    questions = table(tmp_path, "query,choices,answer\nopens,v@0-1|w@0-1,v@0.0-1.0\ncuts,v@0.00-1.0|w@1-2,1\n")
    assert asked(questions) == [
        ("opens", ["v_0_1000", "w_0_1000"], "v_0_1000"),
        ("cuts", ["v_0_1000", "w_1000_2000"], "w_1000_2000"),
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("clip,choices,answer\na,opens|cuts,closes\n", "line 2.*'closes'"),
        ("clip,choices,answer\na,opens|cuts,1\nb,opens|cuts,2\n", "line 3.*'2'.*0 to 1"),
        ("clip,choices,answer\na,opens,0\n", "line 2.*two different"),
        ("clip,choices,answer\na,opens|opens,0\n", "line 2.*two different"),
        ("query,choices,answer\na,v@0-1|v@0.0-1,0\n", r"line 2.*v@0\.0-1.*two different"),
        ("query,choices,answer\na,v@2-1|b,0\n", "'v_2000_1000'"),
        ("clip,choices\na,opens|cuts\n", "answer"),
        ("clip,answer\na,0\n", "choices"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InputError, match=f"questions.csv.*{named}"):
        table(tmp_path, text)
