import json
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from clep.bank import Clock, FeatureBank
from clep.data import LongTerm
from clep.datasets.choice_questions import Question, read_questions, write_questions
from clep.errors import InputError
from clep.evaluation import MultipleChoice
from tests.evaluation.tiny_clips import ENCODER, by_hand, model_for, unit
from tests.tiny_source import TEXT_DIM, tiny_source

SENTENCES = [f"#C C does {i}" for i in range(9)]


class Words:
    """A sentence encoder that draws a vector from the text; counts what it is asked."""

    asked: ClassVar[list[str]] = []

    def __init__(self, name: str, device: str) -> None:
        del name, device

    def encode(self, texts: list[str]) -> np.ndarray:
        Words.asked += texts
        return np.stack([vector_of(text) for text in texts]).astype(np.float32)


def vector_of(text: str) -> np.ndarray:
    return np.random.default_rng(list(text.encode())).standard_normal(TEXT_DIM)


@pytest.fixture(autouse=True)
def _words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clep.evaluation.clip_text.load_sentence_encoder", Words)
    Words.asked = []


def asked(folder: Path, count: int = 40, absent: int = 0) -> list[Question]:
    tiny_source(folder)
    random = np.random.default_rng(5)
    questions = []
    for number in range(count):
        size, start_s = int(random.integers(2, 6)), float(random.uniform(0, 50))
        choices = tuple(SENTENCES[i] for i in random.choice(len(SENTENCES), size, replace=False))
        video = "not there" if number < absent else f"v{random.integers(12):02d}"
        group = "few" if size < 4 else "many"
        questions.append(Question(video, start_s, start_s + 3, group, choices, int(random.integers(size))))
    write_questions(folder / "questions.json", questions)
    return questions


def evaluator(folder: Path, **options: object) -> MultipleChoice:
    return MultipleChoice(folder / "questions.json", folder / "bank.h5", **options)


def test_equals_a_loop_over_questions(tmp_path: Path) -> None:
    questions, model = asked(tmp_path), model_for()
    bank = FeatureBank.open(tmp_path / "bank.h5")
    right: dict[str, list[bool]] = {"few": [], "many": []}
    for one in questions:
        rows = bank.video_rows(one.video).numpy().astype(np.float64)
        first, last = Clock().window(one.start_s, one.end_s, len(rows), 60.0)
        video = unit(by_hand(model.video, rows[first:last].mean(0)))
        texts = [unit(by_hand(model.text, vector_of(c.replace("#C C", "Camera wearer")))) for c in one.choices]
        right[one.group].append(int(np.argmax([video @ text for text in texts])) == one.answer)
    chances = {g: np.mean([100 / len(q.choices) for q in questions if q.group == g]) for g in right}
    found = evaluator(tmp_path, batch_size=7).run(model)
    for group, of in right.items():
        assert found[f"choice/{group}/accuracy"] == pytest.approx(100 * np.mean(of))
        assert found[f"choice/{group}/chance"] == pytest.approx(chances[group])
    assert len(found) == 4


def test_sentences_are_encoded_once(tmp_path: Path) -> None:
    asked(tmp_path)
    measure = evaluator(tmp_path)
    first = measure.run(model_for())
    assert sorted(Words.asked) == [f"Camera wearer does {i}" for i in range(9)]
    assert measure.run(model_for()) == first
    assert pickle.loads(pickle.dumps(measure)).run(model_for()) == first
    assert measure.coverage["questions"] == 40
    assert measure.coverage["questions of few"] + measure.coverage["questions of many"] == 40


def test_the_tags_are_written_as_in_training(tmp_path: Path) -> None:
    asked(tmp_path)
    model = model_for()
    model.metadata["tag_style"] = "tutorial"
    write_questions(tmp_path / "questions.json", [Question("v00", 1, 3, "a", ("#C C x #unsure", "#O y"), 0)])
    evaluator(tmp_path).run(model)
    assert Words.asked == ["Camera wearer C x something", "Other person y"]


def test_a_tie_is_wrong(tmp_path: Path) -> None:
    asked(tmp_path)
    model = model_for()
    with torch.no_grad():
        for parameter in model.text.parameters():
            parameter.zero_()
    assert {v for k, v in evaluator(tmp_path).run(model).items() if k.endswith("accuracy")} == {0.0}


def test_a_model_with_a_long_term_context_gets_the_minute_around_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, model = asked(tmp_path), model_for()
    model.metadata["context"] = LongTerm(20, 1).to_dict()
    seen = []
    monkeypatch.setattr(
        type(model), "encode_video", lambda self, batch: seen.append(batch) or torch.zeros(len(batch["video"]), 6)
    )
    evaluator(tmp_path).run(model)
    bank = FeatureBank.open(tmp_path / "bank.h5")
    middle = torch.tensor([(one.start_s + one.end_s) / 2 for one in questions], dtype=torch.float64)
    rows, mask = bank.long_term(bank.index([one.video for one in questions]), middle, 20, 1, gaps=False)
    torch.testing.assert_close(torch.cat([batch["context"] for batch in seen]), rows)
    assert torch.equal(torch.cat([batch["context_mask"] for batch in seen]), mask)


def test_videos_that_the_bank_lacks(tmp_path: Path) -> None:
    asked(tmp_path, absent=3)
    with pytest.raises(InputError, match=r"no rows for 3 of the 40 questions .*'not there'.*on_missing=skip"):
        evaluator(tmp_path).run(model_for())
    measure = evaluator(tmp_path, on_missing="skip")
    measure.run(model_for())
    assert measure.coverage["questions without features"] == 3
    asked(tmp_path, count=3, absent=3)
    with pytest.raises(InputError, match=r"bank\.h5 has none of the 3 clips of .*questions\.json.*'not there'"):
        evaluator(tmp_path, on_missing="skip").run(model_for())
    with pytest.raises(InputError, match="on_missing='leave'"):
        evaluator(tmp_path, on_missing="leave")


def test_a_model_of_another_bank_or_without_a_sentence_encoder_is_refused(tmp_path: Path) -> None:
    asked(tmp_path)
    model = model_for()
    model.metadata["bank_encoder"] = "other"
    with pytest.raises(InputError, match=f"'other'.*{ENCODER!r}"):
        evaluator(tmp_path).run(model)
    with pytest.raises(InputError, match="does not say which sentence encoder"):
        evaluator(tmp_path).run(model_for(metadata={}))


def test_questions_come_back_as_they_were_written(tmp_path: Path) -> None:
    questions = asked(tmp_path)
    assert read_questions(tmp_path / "questions.json") == questions
    assert len(json.loads((tmp_path / "questions.json").read_text())["sentences"]) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 2}, "question 0 cannot be used.*answer 2 of 2 choices"),
        ({"answer": -1}, "answer -1"),
        ({"choices": [0]}, "at least two"),
        ({"choices": [1, 1]}, "at least two distinct sentences"),
        ({"choices": [0, 7]}, "question 0 cannot be used: IndexError"),
        ({"choices": [0, -1]}, "question 0 cannot be used: IndexError"),
        ({"start_s": 5.0}, "a span needs 0 <= start_s < end_s"),
        ({"end_s": float("nan")}, "question 0"),
        ({"video": None, "start_s": None}, "question 0"),
    ],
)
def test_questions_that_are_none(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_questions(tmp_path / "q.json", [Question("v00", 1.0, 3.0, "a", ("x", "y"), 0)])
    content = json.loads((tmp_path / "q.json").read_text())
    del content["checksum"]
    content["questions"][0] |= change
    (tmp_path / "q.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_questions(tmp_path / "q.json")


def test_files_that_hold_no_questions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_questions(tmp_path / "q.json")
    (tmp_path / "q.json").write_text("{}")
    with pytest.raises(InputError, match="is not a file of questions"):
        read_questions(tmp_path / "q.json")
    write_questions(tmp_path / "q.json", [])
    with pytest.raises(InputError, match="holds no questions"):
        read_questions(tmp_path / "q.json")


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    pd.DataFrame(rows).to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def test_a_table_of_sentences_to_choose_from(tmp_path: Path) -> None:
    """The same questions as a questions.json and as two tables: choices in one cell, and in columns."""
    questions, model = asked(tmp_path), model_for()
    expected = evaluator(tmp_path).run(model)
    common = [
        {"video": q.video, "start": q.start_s, "end": q.end_s, "kind": q.group, "answer": q.answer} for q in questions
    ]
    one = [row | {"choices": "|".join(q.choices)} for row, q in zip(common, questions, strict=True)]
    two = [
        row | {f"choice{i}": text for i, text in enumerate(q.choices)} | {"answer": q.choices[q.answer]}
        for row, q in zip(common, questions, strict=True)
    ]
    for name, rows in (("one.csv", one), ("two.tsv", two)):
        path = write_table(tmp_path / name, rows)
        measure = MultipleChoice(path, tmp_path / "bank.h5", columns={"group": "kind"}, name="mine")
        assert measure.run(model) == {key.replace("choice/", "choice/mine/"): v for key, v in expected.items()}
        assert measure.coverage["questions of few"] + measure.coverage["questions of many"] == 40


def test_a_table_of_clips_to_choose_from(tmp_path: Path) -> None:
    asked(tmp_path)
    random, model = np.random.default_rng(3), model_for()
    bank = FeatureBank.open(tmp_path / "bank.h5")
    rows, right = [], []
    for _ in range(30):
        spans = [(f"v{random.integers(12):02d}", float(random.integers(50))) for _ in range(int(random.integers(2, 5)))]
        spans = list(dict.fromkeys(spans))
        spans = [*spans, ("v00", 55.0)] if len(spans) < 2 else spans
        text, answer = SENTENCES[random.integers(9)], int(random.integers(len(spans)))
        sentence = unit(by_hand(model.text, vector_of(text.replace("#C C", "Camera wearer"))))
        scores = []
        for video, start_s in spans:
            of_video = bank.video_rows(video).numpy().astype(np.float64)
            first, last = Clock().window(start_s, start_s + 2, len(of_video), 60.0)
            scores.append(unit(by_hand(model.video, of_video[first:last].mean(0))) @ sentence)
        right.append(int(np.argmax(scores)) == answer)
        choices = [f"{video}@{start_s}-{start_s + 2:g}" for video, start_s in spans]
        rows.append({"query": text, "choices": "|".join(choices), "answer": answer})
    found = MultipleChoice(write_table(tmp_path / "q.csv", rows), tmp_path / "bank.h5").run(model)
    assert found["choice/table/accuracy"] == pytest.approx(100 * np.mean(right))
    assert 0 < np.mean(right) < 1
    assert set(found) == {"choice/table/accuracy", "choice/table/chance"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query,choices\nx,a|b\n", r"lacks the column 'answer'.*evaluator\.multiple_choice\.columns\.answer=NAME"),
        ("query,answer\nx,0\n", r"lacks the column 'choices'"),
        ("query,choices,answer\nx,a|b,2\n", r"line 2: the answer '2' is neither a choice nor an index from 0 to 1"),
        ("query,choices,answer\nx,a|b,c\n", r"line 2: the answer 'c'"),
        ("query,choices,answer\nx,a|a,0\n", r"line 2: .*at least two different ones"),
        ("query,choices,answer\nx,a,0\n", r"line 2: .*at least two different ones"),
        ("query,choices,answer\n,a|b,0\nx,a|b,0\n", r"line 2: query is empty"),
        ("query,choices,answer\nx,v@3-2|v@1-2,0\n", r"q\.csv: the clip 'v_3000_2000' spans 3 to 2 s"),
        ("choices,answer\nx|y,0\n", r"lacks the column 'clip'"),
        ("video,start,end,choices,answer\nv,2,1,x|y,0\n", r"line 2: the clip 'v_2000_1000' spans 2 to 1 s"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        MultipleChoice(tmp_path / "q.csv", tmp_path / "bank.h5").run(model_for())
