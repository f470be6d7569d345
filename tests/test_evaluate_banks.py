"""The evaluation command on two banks of one published model, without a run."""

from pathlib import Path

import numpy as np
import pytest

from clep.bank import BankWriter, Clock
from clep.evaluate import main
from clep.files import read_json
from clep.text import Texts
from tests.evaluation.test_epic_mir import Clip, write_epic


def write_joint_space(folder: Path, clips: list[Clip], text_dim: int = 9) -> None:
    """Write rows and sentences that are the clip's verb and nouns, which rank every sentence right."""
    vectors = np.zeros((len(clips), text_dim), np.float32)
    for row, (_, _, verb, nouns) in enumerate(clips):
        vectors[row, [verb, *(4 + noun for noun in nouns)]] = [1, *[len(nouns) ** -0.5] * len(nouns)]
    texts = {clip[1]: vectors[row] for row, clip in enumerate(clips)}
    source = Texts.of(texts).digest()
    with BankWriter(folder / "sentences.h5", text_dim, None, "float32", "lavila", source) as writer:
        writer.add("sentences", np.stack(list(texts.values())))
    with BankWriter(folder / "features.h5", 9, Clock(1.0, 1.0), "float32", "lavila") as writer:
        for clip, vector in zip(clips, vectors[:, :9], strict=True):
            writer.add(clip[0], vector[None])


def words(folder: Path, **options: object) -> list[str]:
    paths = {"clips": "clips.csv", "sentences": "sentences.csv", "bank": "features.h5", "texts": "sentences.h5"}
    given = [f"evaluator.epic_mir.{key}={folder / name}" for key, name in paths.items()]
    return [
        "evaluator=epic_mir",
        *given,
        f"out={folder / 'out'}",
        *(f"{key}={value}" for key, value in options.items()),
    ]


def test_banks_of_a_published_model_are_measured_without_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips, sentences = write_epic(tmp_path, clips=180)
    write_joint_space(tmp_path, clips)
    main(words(tmp_path, model="joint_space", device="cpu"))
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["ek100_mir/mean/mAP"] == pytest.approx(100)
    assert set(metrics) == {
        f"ek100_mir/{side}/{name}" for side in ("v2t", "t2v", "mean") for name in ("mAP", "mAP_binary", "nDCG")
    }
    coverage = read_json(tmp_path / "out" / "coverage.json")["epic_mir"]
    assert (coverage["clips"], coverage["sentences"]) == (180, len(sentences))
    assert "ek100_mir/mean/mAP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "mlp"}, "need no training (model=joint_space); give a run of this model with ckpt=PATH"),
        ({"model": "joint_space", "text_encoder": "avion"}, "trained with text embeddings of 'avion'"),
        ({"model": "joint_space", "evaluator.epic_mir.texts": "missing.h5"}, "clep.preprocess epic_mir"),
        (
            {"model": "joint_space", "evaluator.epic_mir.similarity": "l2"},
            "evaluator.epic_mir.similarity=l2 is unknown",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, str], message: str
) -> None:
    clips, _ = write_epic(tmp_path)
    write_joint_space(tmp_path, clips)
    assert main(words(tmp_path, **change)) == 1
    assert message in caplog.text


def test_a_text_bank_of_another_dimension_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips, _ = write_epic(tmp_path)
    write_joint_space(tmp_path, clips, text_dim=12)
    assert main(words(tmp_path, model="joint_space")) == 1
    assert "they are not of one model" in caplog.text


def test_an_evaluator_must_be_named(caplog: pytest.LogCaptureFixture) -> None:
    assert main(["model=joint_space"]) == 1
    assert "evaluator=NAME is needed" in caplog.text


def test_three_tables_of_ones_own_are_measured_at_once(tmp_path: Path) -> None:
    """One video, whose rows are the embeddings of the sentences, so that every metric is at its best."""
    names = ["cut", "dry", "wash"]
    vectors = np.eye(3, dtype=np.float32)
    with BankWriter(tmp_path / "film.h5", 3, Clock(1.0, 1.0), "float32", "lavila") as writer:
        writer.add("film", vectors)
    with BankWriter(tmp_path / "texts.h5", 3, None, "float32", "lavila", Texts.of(names).digest()) as writer:
        writer.add("sentences", vectors)
    spans = [f"film.mp4,{second},{second + 1},{name}" for second, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["video,start,end,label", *spans]))
    (tmp_path / "queries.csv").write_text("\n".join(["video,start,end,query", *spans]))
    questions = [f"film,{i},{i + 1},cut|dry|wash,{name}" for i, name in enumerate(names)]
    (tmp_path / "questions.csv").write_text("\n".join(["video,start,end,choices,answer", *questions]))
    files = {
        "table_classification.table": "labels.csv",
        "table_retrieval.table": "queries.csv",
        "multiple_choice.questions": "questions.csv",
    }
    given = [f"evaluator.{key}={tmp_path / name}" for key, name in files.items()]
    for key in files:
        name = key.partition(".")[0]
        given += [f"evaluator.{name}.bank={tmp_path / 'film.h5'}", f"evaluator.{name}.texts={tmp_path / 'texts.h5'}"]
        given.append(f"evaluator.{name}.name=mine")
    second = f"{{_target_: clep.evaluation.ZeroShotClassification, table: {tmp_path / 'labels.csv'}, name: other, "
    second += f"bank: {tmp_path / 'film.h5'}, texts: {tmp_path / 'texts.h5'}}}"
    main(
        [
            "model=joint_space",
            "evaluator=[table_classification,table_retrieval,multiple_choice]",
            *given,
            f"+evaluator.second={second}",
            f"out={tmp_path / 'out'}",
            "device=cpu",
        ]
    )
    metrics = read_json(tmp_path / "out" / "metrics.json")
    best = {
        **{f"zeroshot/{name}/top1": 100 for name in ("mine", "other")},
        **{f"retrieval/mine/{side}/mAP": 100 for side in ("t2v", "v2t")},
        **{f"retrieval/mine/{side}/median_rank": 1 for side in ("t2v", "v2t")},
        **{"choice/mine/accuracy": 100, "choice/mine/chance": pytest.approx(100 / 3)},
    }
    assert {name: metrics[name] for name in best} == best
    coverage = read_json(tmp_path / "out" / "coverage.json")
    assert set(coverage) == {"table_classification", "table_retrieval", "multiple_choice", "second"}
    assert coverage["table_classification"]["clips with features"] == 3
