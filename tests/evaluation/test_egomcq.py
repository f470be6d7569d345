"""EgoMCQ on small banks, against a loop over questions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock
from clep.errors import InputError
from clep.evaluation import EgoMCQ
from clep.models import DualEncoder
from tests.evaluation.tiny_benchmarks import similarity, write_rows, write_sentences
from tests.evaluation.tiny_clips import model_for

VIDEOS = {"v0": 9, "v1": 12, "v2": 10}


def option(video: str, start_s: float, text: str) -> dict[str, object]:
    return {"video_uid": video, "clip_start": start_s, "clip_end": start_s + 2, "clip_text": text}


def write_questions(folder: Path, count: int = 60, seed: int = 0) -> list[dict]:
    """Write egomcq.json: clips of 2 s at whole seconds of three videos."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        kind = 1 + number % 2
        names = list(VIDEOS) if kind == 1 else [str(random.choice(list(VIDEOS)))]
        options = [option(str(random.choice(names)), float(random.integers(7)), f"#C C act {i}") for i in range(5)]
        answer = int(random.integers(5))
        query = options[answer] | {"clip_text": f"#C C does {number % 40}"}
        found.append(
            {"query": query, "choices": {str(i): one for i, one in enumerate(options)}, "answer": answer, "types": kind}
        )
    (folder / "egomcq.json").write_text(json.dumps({str(i): one for i, one in enumerate(found)}))
    return found


def evaluator(folder: Path, **options: object) -> EgoMCQ:
    return EgoMCQ(folder / "egomcq.json", folder / "features.h5", folder / "sentences.h5", **options)


def sentences_of(questions: list[dict], style: str = "clean") -> list[str]:
    written = dict.fromkeys(str(one["query"]["clip_text"]) for one in questions)
    return [text.replace("#C C", "Camera wearer") if style == "clean" else text for text in written]


def accuracy_by_hand(
    model: DualEncoder, questions: list[dict], rows: dict[str, np.ndarray], texts: dict[str, np.ndarray], cosine: bool
) -> dict[str, float]:
    right: dict[str, list[bool]] = {"inter": [], "intra": []}
    for one in questions:
        text = texts[one["query"]["clip_text"].replace("#C C", "Camera wearer")]
        scores = []
        for choice in one["choices"].values():
            start = int(choice["clip_start"])
            scores.append(similarity(model, rows[choice["video_uid"]][start : start + 2], text, cosine))
        best = max(scores)
        answer = scores[one["answer"]]
        wins = answer == best and scores.count(best) == 1
        right["inter" if one["types"] == 1 else "intra"].append(wins)
    return {f"egomcq/{name}/accuracy": 100 * float(np.mean(found)) for name, found in right.items()}


@pytest.mark.parametrize("mode", ["cosine", "dot"])
def test_equals_a_loop_over_questions(tmp_path: Path, mode: str) -> None:
    random = np.random.default_rng(1)
    questions = write_questions(tmp_path)
    rows = write_rows(tmp_path / "features.h5", VIDEOS, random, rows=12)
    texts = write_sentences(tmp_path / "sentences.h5", sentences_of(questions), random)
    model, one = model_for(), evaluator(tmp_path, similarity=mode, batch_size=7)
    expected = accuracy_by_hand(model, questions, rows, texts, mode == "cosine")
    assert one.run(model) == pytest.approx(expected)
    assert 0 < expected["egomcq/inter/accuracy"] < 100
    assert model.normalize  # the model's own setting is back
    assert one.coverage["questions"] == one.coverage["questions with all clips"] == 60
    assert one.coverage["questions of inter"] == 30


def test_dot_products_and_cosines_choose_different_clips(tmp_path: Path) -> None:
    """A long vector wins by its length: what separates LaViLa's evaluation from EgoVLP's."""
    choices = {"0": option("v0", 0, ""), **{str(number): option("v1", 0, "") for number in range(1, 5)}}
    question = {"query": option("v0", 0, "#C C cuts"), "choices": choices, "answer": 0, "types": 1}
    (tmp_path / "egomcq.json").write_text(json.dumps({"0": question}))
    text = write_sentences(tmp_path / "sentences.h5", ["Camera wearer cuts"], np.random.default_rng(0))[
        "Camera wearer cuts"
    ]
    across = np.roll(text, 1) - text * (np.roll(text, 1) @ text) / (text @ text)
    with BankWriter(tmp_path / "features.h5", len(text), Clock(1.0, 1.0), "float32") as writer:
        writer.add("v0", np.stack([text, text]))
        writer.add("v1", np.stack([9 * text + 40 * across] * 2))
    joint = DualEncoder(torch.nn.Identity(), torch.nn.Identity())
    assert evaluator(tmp_path, similarity="cosine").run(joint) == {"egomcq/inter/accuracy": 100.0}
    assert evaluator(tmp_path, similarity="dot").run(joint) == {"egomcq/inter/accuracy": 0.0}


def test_rows_of_a_clip_take_precedence_over_its_video_and_missing_clips_are_counted(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    questions = write_questions(tmp_path)
    read = evaluator(tmp_path).questions
    kept = [name for name in read.clips.ids if not name.startswith("v2")]
    write_rows(tmp_path / "features.h5", kept, random, rows=1)
    write_sentences(tmp_path / "sentences.h5", sentences_of(questions), random)
    one = evaluator(tmp_path)
    one.run(model_for())
    whole = sum(all(choice["video_uid"] != "v2" for choice in question["choices"].values()) for question in questions)
    assert 0 < whole < 60
    assert one.coverage["questions with all clips"] == whole
    assert one.coverage["clips with features"] == len(kept) < one.coverage["clips"]


def test_a_bank_of_other_videos_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    questions = write_questions(tmp_path)
    write_rows(tmp_path / "features.h5", ["x", "y"], random)
    write_sentences(tmp_path / "sentences.h5", sentences_of(questions), random)
    with pytest.raises(InputError, match="has none of the .* clips of benchmark egomcq"):
        evaluator(tmp_path).run(model_for())


def test_a_text_bank_of_another_tag_style_is_refused_with_the_command(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    questions = write_questions(tmp_path)
    write_rows(tmp_path / "features.h5", VIDEOS, random, rows=12)
    write_sentences(tmp_path / "sentences.h5", sentences_of(questions, "raw"), random)
    with pytest.raises(InputError, match="other sentences.*clep.preprocess egomcq tag_style=clean"):
        evaluator(tmp_path).run(model_for())
    raw = model_for()
    raw.metadata["tag_style"] = "raw"
    assert set(evaluator(tmp_path).run(raw)) == {"egomcq/inter/accuracy", "egomcq/intra/accuracy"}


def test_banks_of_two_models_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    questions = write_questions(tmp_path)
    write_rows(tmp_path / "features.h5", VIDEOS, random, rows=12)
    write_sentences(tmp_path / "sentences.h5", sentences_of(questions), random)
    joint = DualEncoder(torch.nn.Identity(), torch.nn.Identity())
    with pytest.raises(InputError, match="they are not of one model"):
        evaluator(tmp_path).run(joint)
