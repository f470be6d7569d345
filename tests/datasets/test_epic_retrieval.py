"""EPIC-KITCHENS-100's csv files and relevancy pickle: what is read, and what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from clep.datasets.epic_retrieval import (
    epic_action_classes,
    read_epic_actions,
    read_epic_classes,
    read_epic_relevancy,
    read_epic_sentences,
)
from clep.errors import InputError

HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
ROWS = [
    "P01_11_0,P01,P01_11,00:00:00.560,00:00:00.00,00:00:01.89,1,113,take plate,take,0,plate,2,['plate'],[2]",
    "P01_11_1,P01,P01_11,00:00:01.700,00:00:01.56,00:01:02.45,93,147,put plate,put,1,plate,2,['plate'],[2]",
    "P02_03_9,P02,P02_03,00:00:09.700,01:00:00.00,01:00:02.00,9,14,grab a plate,take,0,plate,2,['plate'],[2]",
    "P02_03_10,P02,P02_03,00:00:09.700,01:00:02.00,01:00:02.50,9,14,mix,mix,10,bowl,7,\"['bowl', 'egg']\",\"[7, 4]\"",
]
SAMPLES = Path(__file__).parents[2].parent / "shared/data/epic_kitchens"


def write(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write(tmp_path, "clips.csv", [HEADER, *ROWS])


def test_clips_are_read_by_column(csv: Path) -> None:
    actions = read_epic_actions(csv)
    assert actions.spans.ids == ["P01_11_0", "P01_11_1", "P02_03_9", "P02_03_10"]
    assert actions.spans.videos == ["P01_11", "P01_11", "P02_03", "P02_03"]
    np.testing.assert_allclose(actions.spans.start_s, [0, 1.56, 3600, 3602])
    np.testing.assert_allclose(actions.spans.end_s, [1.89, 62.45, 3602, 3602.5])
    assert actions.narrations[2] == "grab a plate"
    assert actions.classes == [(0, [2]), (1, [2]), (0, [2]), (10, [7, 4])]
    assert actions.noun.tolist() == [2, 2, 2, 7]


def test_a_sentence_stands_for_the_clip_of_its_id_and_other_texts_are_reported(csv: Path, tmp_path: Path) -> None:
    lines = ["narration_id,narration", "P02_03_9,grab a plate", "P01_11_1,put down plate"]
    sentences = read_epic_sentences(write(tmp_path, "sentences.csv", lines), read_epic_actions(csv))
    assert sentences.clip.tolist() == [2, 1]
    assert sentences.mismatched == {"P01_11_1": ("put down plate", "put plate")}


def test_classes_are_sorted_as_text_with_distinct_narrations(csv: Path, tmp_path: Path) -> None:
    actions = read_epic_actions(csv)
    other = read_epic_actions(write(tmp_path, "train.csv", [HEADER, ROWS[0].replace("P01", "P09"), ROWS[2]]))
    classes = epic_action_classes([other, actions])
    assert classes.pairs == [(0, 2), (10, 7), (1, 2)]  # "10:7" sorts before "1:2"
    assert classes.narrations == [["take plate", "grab a plate"], ["mix"], ["put plate"]]
    assert classes.index(actions).tolist() == [0, 2, 0, 1]
    assert epic_action_classes([other]).index(actions).tolist() == [0, -1, 0, -1]


def test_the_official_pickle_is_read_as_data(tmp_path: Path) -> None:
    matrix = np.array([[1, 0.5, 0], [0.25, 1, 0.5]])
    for protocol in (2, 4):
        (tmp_path / "relevancy.pkl").write_bytes(pickle.dumps(matrix, protocol))
        np.testing.assert_array_equal(read_epic_relevancy(tmp_path / "relevancy.pkl", 2, 3), matrix)


class Code:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.eye(3), r"shape \(3, 3\), but there are 2 clips and 3 sentences; give the relevancy of the same split"),
        (np.ones((3, 2)), r"shape \(3, 2\), but there are 2 clips and 3 sentences; transpose it"),
        (np.full((2, 3), np.nan), "outside of 0"),
        (-np.ones((2, 3)), "outside of 0"),
        (np.ones((2, 3), int), r"holds a int64 array of the shape \(2, 3\), not a matrix of relevancies .*of floats"),
        (2 * np.ones((2, 3)), "outside of 0"),
        ({"a": 1}, "holds a dict, not a matrix"),
        (Code(), "would run builtins.eval"),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "relevancy.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message):
        read_epic_relevancy(path, 2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("00:00:01.89", "soon"), "line 2: stop_timestamp is 'soon'"),
        (("00:01:02.45", "00:00:01.00"), "'P01_11_1' spans 1.56 to 1 s"),
        (("P01_11_1", "P01_11_0"), "'P01_11_0' is listed 2 times"),
        (("narration_id", "uid"), "lacks the column 'narration_id'.*EPIC-KITCHENS-55"),
        (("[2]", "plate"), "all_noun_classes is 'plate'"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, "clips.csv", [line.replace(*change, 1) for line in (HEADER, *ROWS)])
    with pytest.raises(InputError, match=message):
        read_epic_actions(path)


def test_sentences_of_another_split_are_refused(csv: Path, tmp_path: Path) -> None:
    sentences = write(tmp_path, "sentences.csv", ["narration_id,narration", "P09_01_2,take plate"])
    with pytest.raises(InputError, match="line 2: 'P09_01_2' is not a narration_id of .*clips.csv"):
        read_epic_sentences(sentences, read_epic_actions(csv))


def test_a_sentence_that_stands_twice_is_refused(csv: Path, tmp_path: Path) -> None:
    actions = read_epic_actions(csv)
    rows = [f"{actions.spans.ids[i]},take plate" for i in (0, 1, 0)]
    with pytest.raises(InputError, match=r"sentences\.csv, line 4: the narration_id 'P01_11_0' is listed a second"):
        read_epic_sentences(write(tmp_path, "sentences.csv", ["narration_id,narration", *rows]), actions)


def test_class_lists(tmp_path: Path) -> None:
    path = write(
        tmp_path, "verbs.csv", ["id,key,instances,category", "0,take,\"['get', 'grab']\",retrieve", "1,put,[],x"]
    )
    assert read_epic_classes(path) == {0: "take", 1: "put"}
    with pytest.raises(InputError, match="an id twice"):
        read_epic_classes(write(tmp_path, "twice.csv", ["id,key", "1,take", "1,put"]))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the EPIC-KITCHENS samples, which the project does not ship")
def test_six_real_sentences_do_not_belong_to_their_ids() -> None:
    actions = read_epic_actions(SAMPLES / "EPIC_100_validation.csv")
    sentences = read_epic_sentences(SAMPLES / "EPIC_100_retrieval_test_sentence.csv", actions)
    assert (len(actions), len(sentences.clip)) == (9668, 3842)
    assert len(sentences.mismatched) == 6
    assert sentences.mismatched["P22_04_144"][0] == "wash cooker"
    assert len(read_epic_classes(SAMPLES / "EPIC_100_verb_classes.csv")) == 97
