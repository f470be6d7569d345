"""EPIC-KITCHENS-100's retrieval and classification files (Damen et al., IJCV 2022), from its annotation repository."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from clep.datasets.clip_spans import ClipSpans
from clep.datasets.lfb_files import load_data
from clep.errors import InputError
from clep.tables import parse_clock_times, parse_id_lists, parse_numbers, read_table, refuse_empty

COLUMNS = (
    *("narration_id", "video_id", "start_timestamp", "stop_timestamp", "narration"),
    *("verb_class", "noun_class", "all_noun_classes"),
)
HINT = (
    "EPIC_100_train.csv, EPIC_100_validation.csv, EPIC_100_retrieval_train.csv and EPIC_100_retrieval_test.csv have "
    "them; the files of EPIC-KITCHENS-55 have no narration_id and cannot be used here"
)


@dataclass(frozen=True)
class EpicActions:
    """Annotated clips, in the order of the csv.

    Attributes:
        path: of the csv, for messages.
        spans: their ids (`narration_id`) and spans.
        narrations: what the annotator said.
        verb: verb class of each clip.
        noun: class of its main noun.
        nouns: all its noun classes.
    """

    path: Path
    spans: ClipSpans
    narrations: Sequence[str]
    verb: Int64[np.ndarray, " clips"]
    noun: Int64[np.ndarray, " clips"]
    nouns: Sequence[Collection[int]]

    def __len__(self) -> int:
        return len(self.narrations)

    @property
    def classes(self) -> list[tuple[int, Collection[int]]]:
        """Verb class and noun classes of each clip, as `clep.metrics.mir_relevancy` takes them."""
        return list(zip(self.verb.tolist(), self.nouns, strict=True))


def read_epic_actions(csv: str | Path) -> EpicActions:
    """Read `EPIC_100_validation.csv`, `EPIC_100_retrieval_test.csv` or another csv of the same columns.

    Raises:
        InputError: the file is missing, lacks a column, has a cell that cannot be read, or an id twice; the message
            names the line.
    """
    table = read_table(csv, COLUMNS, HINT)
    for column in ("narration_id", "video_id", "narration"):
        refuse_empty(table[column], csv)
    start_s, end_s = (parse_clock_times(table[name], csv) for name in ("start_timestamp", "stop_timestamp"))
    codes, lists = parse_id_lists(table["all_noun_classes"], csv)
    verb, noun = (parse_numbers(table[name], csv).astype(np.int64) for name in ("verb_class", "noun_class"))
    try:
        spans = ClipSpans(table["narration_id"].tolist(), table["video_id"].tolist(), start_s, end_s)
    except InputError as error:
        raise InputError(f"{csv}: {error}") from error
    return EpicActions(Path(csv), spans, table["narration"].tolist(), verb, noun, [lists[code] for code in codes])


@dataclass(frozen=True)
class EpicSentences:
    """The distinct sentences of multi-instance retrieval.

    Attributes:
        clip: index of the clip that each sentence stands for.
        mismatched: of the sentences whose text is not the narration of their clip, id → (text, narration). The official
            code scores the narration of the clip.
    """

    clip: Int64[np.ndarray, " sentences"]
    mismatched: dict[str, tuple[str, str]]


def read_epic_sentences(csv: str | Path, actions: EpicActions) -> EpicSentences:
    """Read `EPIC_100_retrieval_test_sentence.csv`: sentence k stands for the clip whose `narration_id` row k has.

    Raises:
        InputError: the file is missing or lacks a column, or an id is listed twice or unknown to `actions`.
    """
    table = read_table(csv, ("narration_id", "narration"))
    index = {name: position for position, name in enumerate(actions.spans.ids)}
    unknown = [(line, name) for line, name in table["narration_id"].items() if name not in index]
    if unknown:
        raise InputError(
            f"{csv}, line {unknown[0][0]}: {unknown[0][1]!r} is not a narration_id of {actions.path} "
            f"({len(unknown)} such sentences); give the sentences and the clips of one split"
        )
    repeated = table["narration_id"].duplicated()
    if repeated.any():
        line, name = next(table.loc[repeated, "narration_id"].items())
        raise InputError(
            f"{csv}, line {line}: the narration_id {name!r} is listed a second time ({int(repeated.sum())} such "
            f"sentences); list each sentence once"
        )
    clip = np.array([index[name] for name in table["narration_id"]], dtype=np.int64)
    pairs = zip(table["narration_id"], table["narration"], (actions.narrations[i] for i in clip), strict=True)
    return EpicSentences(clip, {name: (text, own) for name, text, own in pairs if text != own})


def read_epic_relevancy(pkl: str | Path, clips: int, sentences: int) -> Float[np.ndarray, "clips sentences"]:
    """Read the official `caption_relevancy_EPIC_100_retrieval_test.pkl` as data; no code in it is run.

    Its columns must be in the order of the sentence csv that is used with it.

    Raises:
        InputError: the file is missing, damaged or an unsafe pickle, or holds something else or another shape.
    """
    content = load_data(Path(pkl))
    matrix = np.asarray(content) if isinstance(content, np.ndarray) else np.empty(0)
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        what = type(content).__name__
        if isinstance(content, np.ndarray):
            what = f"{content.dtype} array of the shape {content.shape}"
        raise InputError(f"{pkl} holds a {what}, not a matrix of relevancies [clips, sentences] of floats")
    if matrix.shape != (clips, sentences):
        remedy = "transpose it" if matrix.shape == (sentences, clips) else "give the relevancy of the same split"
        raise InputError(
            f"{pkl} has the shape {matrix.shape}, but there are {clips} clips and {sentences} sentences; {remedy}, or "
            f"relevancy=null to compute it from the classes"
        )
    if not (matrix.min() >= 0 and matrix.max() <= 1):
        raise InputError(f"{pkl} holds values outside of 0 … 1, so they are not relevancies; fetch it again")
    return matrix


@dataclass(frozen=True)
class EpicActionClasses:
    """The action classes of zero-shot classification, as LaViLa lists them.

    Attributes:
        pairs: (verb class, noun class) of each, sorted by their text "verb:noun".
        narrations: the distinct narrations of each class, in order of appearance.
    """

    pairs: Sequence[tuple[int, int]]
    narrations: Sequence[Sequence[str]]

    def index(self, actions: EpicActions) -> Int64[np.ndarray, " clips"]:
        """Return the class of each clip, -1 for a pair that is not among the classes."""
        position = {pair: number for number, pair in enumerate(self.pairs)}
        found = zip(actions.verb.tolist(), actions.noun.tolist(), strict=True)
        return np.array([position.get(pair, -1) for pair in found], dtype=np.int64)


def epic_action_classes(splits: Sequence[EpicActions]) -> EpicActionClasses:
    """Return the verb–noun pairs that occur in the splits, LaViLa's being train and validation."""
    narrations: dict[tuple[int, int], dict[str, None]] = {}
    for actions in splits:
        for verb, noun, text in zip(actions.verb.tolist(), actions.noun.tolist(), actions.narrations, strict=True):
            narrations.setdefault((verb, noun), {})[text] = None
    pairs = sorted(narrations, key=lambda pair: f"{pair[0]}:{pair[1]}")
    return EpicActionClasses(pairs, [list(narrations[pair]) for pair in pairs])


def read_epic_classes(csv: str | Path) -> dict[int, str]:
    """Read `EPIC_100_verb_classes.csv` or `EPIC_100_noun_classes.csv` as `{id: key}`.

    Raises:
        InputError: the file is missing, lacks a column, or an id is not a number or occurs twice.
    """
    table = read_table(csv, ("id", "key"))
    ids = parse_numbers(table["id"], csv).astype(np.int64).tolist()
    if len(set(ids)) < len(ids):
        raise InputError(f"{csv} has an id twice; fetch it again")
    return dict(zip(ids, table["key"].tolist(), strict=True))
