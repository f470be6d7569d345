"""Jobs of benchmarks, and their evaluators on what the jobs wrote."""

from pathlib import Path

import numpy as np
import pytest

from clep.bank import BankWriter, Clock, FeatureBank
from clep.errors import InputError
from clep.evaluation import (
    EgoMCQ,
    EGTEAZeroShot,
    EpicMIR,
    EpicZeroShot,
    MultipleChoice,
    TableRetrieval,
    ZeroShotClassification,
)
from clep.models import JointSpace
from clep.preprocess.benchmarks import BenchmarkJob, EgoMcq, Egtea, EpicMir, TableClassification
from clep.preprocess.benchmarks import EpicZeroShot as EpicZeroShotJob
from clep.preprocess.benchmarks import MultipleChoice as MultipleChoiceJob
from clep.preprocess.benchmarks import TableRetrieval as TableRetrievalJob
from tests.evaluation.test_classification import write_egtea
from tests.evaluation.test_egomcq import write_questions
from tests.evaluation.test_epic_mir import write_epic

from .conftest import FakeEncoder, embed

TABLES = ("table_classification", "table_retrieval", "multiple_choice")
TEXT = "sentences.fake.h5"


def jobs(folder: Path) -> dict[str, tuple[type[BenchmarkJob], dict, type, dict]]:
    """Write each benchmark's files; return its job, evaluator and their options."""
    write_epic(folder)
    write_egtea(folder)
    write_questions(folder)
    (folder / "table.csv").write_text("clip,label\na,red\nb,blue\nc,red\n")
    (folder / "queries.tsv").write_text("caption\tclip\nx\ta|b\ny\tb|c\n")
    (folder / "choices.csv").write_text("query,choices,answer\nx,a|b,b\ny,b|c,1\n")
    epic, sentences = folder / "clips.csv", folder / "sentences.csv"
    split = {"split": folder / "split.txt", "actions": folder / "actions.txt"}
    templates = ["#C C {}", "a {}"]
    return {
        "epic_mir": (EpicMir, {"clips": epic, "sentences": sentences, "template": "a {}"}, EpicMIR, {}),
        "epic_zero_shot": (EpicZeroShotJob, {"clips": epic, "train": None, "templates": templates}, EpicZeroShot, {}),
        "egomcq": (EgoMcq, {"questions": folder / "egomcq.json"}, EgoMCQ, {}),
        "egtea": (Egtea, {**split, "templates": templates}, EGTEAZeroShot, {}),
        "table_classification": (TableClassification, {"table": folder / "table.csv"}, ZeroShotClassification, {}),
        "table_retrieval": (
            TableRetrievalJob,
            {"table": folder / "queries.tsv", "columns": {"query": "caption"}},
            TableRetrieval,
            {},
        ),
        "multiple_choice": (
            MultipleChoiceJob,
            {"questions": folder / "choices.csv"},
            MultipleChoice,
            {"on_missing": "skip"},
        ),
    }


@pytest.mark.parametrize("name", ["epic_mir", "epic_zero_shot", "egomcq", "egtea", *TABLES])
@pytest.mark.parametrize("style", ["clean", "raw"])
def test_an_evaluator_measures_what_its_job_wrote(tmp_path: Path, encoder: FakeEncoder, name: str, style: str) -> None:
    """Features are made from the clip ids that the job lists, as files of one vector each."""
    kind, options, evaluator, more = jobs(tmp_path)[name]
    out = tmp_path / "out"
    job = kind(**options, output_folder=out, text_encoder="fake", tag_style=style)
    assert not job.run()["up_to_date"]
    assert job.outputs() == [out / "clips.csv", out / TEXT]
    assert not job.missing_outputs()
    lines = (out / "clips.csv").read_text().splitlines()
    assert lines[0] == "clip,video,start,end"
    ids = [line.split(",")[0] for line in lines[1:]]
    (tmp_path / "features").mkdir()
    for clip in ids[1:]:
        np.save(tmp_path / "features" / f"{clip}.npy", embed(clip))
    job = kind(
        **options, output_folder=out, text_encoder="fake", tag_style=style, features=tmp_path / "features",
        encoder="fake", dtype="float32",
    )  # fmt: skip
    done = job.run()
    assert done["lists"]["clips_without_features"] == ids[:1]
    assert job.run()["up_to_date"]
    bank = FeatureBank.open(out / "features.h5")
    assert len(bank) == len(ids) - 1
    one = evaluator(bank=out / "features.h5", texts=out / TEXT, **options, **more)
    metrics = one.run(JointSpace(metadata={"tag_style": style}))
    assert metrics
    assert all(0 <= value <= 100 for value in metrics.values())
    assert (one.coverage["clips"], one.coverage["clips with features"]) == (len(ids), len(ids) - 1)


def test_sentences_that_are_not_their_ids_narration_are_listed(tmp_path: Path, encoder: FakeEncoder) -> None:
    clips, sentences = write_epic(tmp_path)
    path = tmp_path / "sentences.csv"
    path.write_text(path.read_text().replace(f"{clips[sentences[2]][0]},", f"{clips[sentences[2]][0]},wash "))
    job = EpicMir(clips=tmp_path / "clips.csv", sentences=path, output_folder=tmp_path / "out", text_encoder="fake")
    found = job.run()["lists"]["sentences_that_are_not_their_ids_narration"]
    name, text = clips[sentences[2]][:2]
    assert found == {name: f"'wash {text}'; the clip is narrated {text!r}"}
    assert set(encoder.encoded) == {clip[1] for clip in clips}


def test_features_of_other_clips_are_refused(tmp_path: Path, encoder: FakeEncoder) -> None:
    write_epic(tmp_path)
    with BankWriter(tmp_path / "bank.h5", 4, Clock(1.0, 1.0), "float32") as writer:
        writer.add("x", np.ones((2, 4), np.float32))
    job = EpicMir(
        clips=tmp_path / "clips.csv",
        sentences=tmp_path / "sentences.csv",
        output_folder=tmp_path / "out",
        features=tmp_path / "bank.h5",
        text_encoder="fake",
    )
    with pytest.raises(InputError, match="has none of the 30 clips"):
        job.run()
