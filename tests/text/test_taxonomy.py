import ast
import csv
import logging
import os
from pathlib import Path

import pytest

from clep.errors import InputError
from clep.text import Taxonomy
from clep.text.taxonomy import read_groups

VERBS = {
    "cut": "['cut', 'slice', 'chop']",
    "take_(pick,_grab)": "['take', 'pick', 'grab', 'pick up']",
    "turn-on": "['turn on', 'switch_on', 'light']",
    "turn": "['turn', 'rotate']",
    "cover": "['cover']",
    "wash": "['wash', 'rinses']",
    "put": "['put', 'place', 'put_down']",
    "lift": "['lift', 'pick']",
    "stir": "['stir', 'mix']",
}
NOUNS = {
    "knife": "['knife', 'cleaver']",
    "board": "['chopping board', 'cutting-board', 'board']",
    "cup": "['cup', 'mug', 'lid']",
    "onion": "['onion', 'onions', 'spring onion']",
    "light": "['light', 'lamp']",
    "cover": "['cover', 'lid']",
    "person": "['man', 'woman', 'person']",
    "plate": "['plate']",
}
PUT, STIR, LIFT = 6, 8, 7


def write(path: Path, groups: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("label", "group"), *groups.items()])
    return path


@pytest.fixture
def taxonomy(tmp_path: Path) -> Taxonomy:
    return Taxonomy(write(tmp_path / "verbs.csv", VERBS), write(tmp_path / "nouns.csv", NOUNS))


@pytest.mark.parametrize(
    ("text", "verbs", "nouns"),
    [
        ("Camera wearer cuts the onions with a knife", [0], [0, 3]),
        ("Camera wearer is slicing spring onions", [0], [3]),
        ("Camera wearer picks up the mug", [1], [2]),
        ("Camera wearer turns on the light", [2], [4]),
        ("Camera wearer turns the lamp on", [2], [4]),
        ("Camera wearer turns the lamp on the plate", [3], [4, 7]),
        ("Camera wearer covers the plate with a cover", [4], [5, 7]),
        ("takes the cover", [1], [5]),
        ("Camera wearer rinses the cutting board", [5], [1]),
        ("rinse chopping boards", [5], [1]),
        ("#C C places the knife on the board and washes the plate", [5, PUT], [0, 1, 7]),
        ("Camera wearer puts down the mug, then stirs the onion", [PUT, STIR], [2, 3]),
        ("Camera wearer continues stirring the onion", [STIR], [3]),
        ("Camera wearer uses a knife to chop the onion", [0], [0, 3]),
        ("The man washes a cup", [5], [2, 6]),
        ("The tall woman with a mug cuts the onion", [0], [2, 3, 6]),
        ("Other person slowly turns the plate", [3], [7]),
        ("She washes the plate while he lights the lamp", [2, 5], [4, 7]),
        ("takes the plate and cover", [1], [5, 7]),
        ("Camera wearer takes the plate and covers it", [1, 4], [7]),
        ("Camera wearer takes the cup and cover it", [1], [2, 5]),
        ("Camera wearer C picks_up the Cleaver.", [1], [0]),
        ("Camera wearer looks around", [], []),
        ("", [], []),
    ],
)
def test_verbs_and_nouns_of_narrations(taxonomy: Taxonomy, text: str, verbs: list[int], nouns: list[int]) -> None:
    found_verbs, found_nouns = taxonomy.match([text])
    assert found_verbs[0] == verbs
    assert found_nouns[0] == nouns


def test_a_word_in_two_groups_belongs_to_both(taxonomy: Taxonomy, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        verbs, nouns = taxonomy.match(["picks the lid", "picks up the lid"])
    assert verbs[0] == [1, LIFT]
    assert verbs[1] == [1]
    assert nouns[0] == nouns[1] == [2, 5]
    assert "1 words are in several groups and belong to all of them: pick" in caplog.text
    assert "lid" in caplog.text


def test_epic_kitchens_classes_are_read_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("id,key,instances,category\n5,spoon,\"['spoon', 'spoon:wooden']\",cutlery\n2,tap,['tap'],fixed\n")
    assert read_groups(path) == {5: ["spoon", "spoon:wooden"], 2: ["tap"]}
    nouns = Taxonomy(write(tmp_path / "verbs.csv", VERBS), path).match(["takes the wooden spoons", "wash tap"])[1]
    assert [nouns[0], nouns[1]] == [[5], [2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"verbs\.csv does not exist; name .* data\.taxonomy\.verbs=CSV"),
        ("label,members\na,['b']\n", r"verbs\.csv lacks a column: a taxonomy has label, group or key, instances"),
        ("label,group\n", r"header but no rows"),
        ("label,group\ncut,['cut']\nwash,wash rinse\n", r"line 3, column 'group' is 'wash rinse', not a list"),
        ("verb,words\na,['b']\n", r"verbs\.csv lacks a column: a taxonomy has label, group or key, instances"),
        ("label,group\ncut,__import__('os')\n", r"line 2, column 'group'"),
        ("label,group\ncut\n", r"line 2 has 1 cells, but the header has 2"),
        ("id,key,instances\nx,cut,['cut']\n", r"line 2: id is 'x'"),
        ("id,key,instances\n-1,cut,['cut']\n", r"line 2: id is '-1'"),
        ("id,key,instances\n1,cut,['cut']\n1,put,['put']\n", r"line 3: duplicate id 1"),
    ],
)
def test_invalid_files_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "verbs.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        Taxonomy(tmp_path / "verbs.csv", write(tmp_path / "nouns.csv", NOUNS)).match(["cuts"])


@pytest.mark.skipif("CLEP_SAMPLE_DATA" not in os.environ, reason="CLEP_SAMPLE_DATA names no folder of sample inputs")
def test_real_narrations_have_their_annotated_classes() -> None:
    folder = Path(os.environ["CLEP_SAMPLE_DATA"]) / "epic_kitchens"
    taxonomy = Taxonomy(folder / "EPIC_100_verb_classes.csv", folder / "EPIC_100_noun_classes.csv")
    with (folder / "EPIC_100_validation.csv").open() as file:
        rows = list({row["narration"]: row for row in csv.DictReader(file)}.values())
    verbs, nouns = taxonomy.match([row["narration"] for row in rows])
    right = sum(int(row["verb_class"]) in verbs[i] for i, row in enumerate(rows))
    pairs = [(number, i) for i, row in enumerate(rows) for number in set(ast.literal_eval(row["all_noun_classes"]))]
    found = sum(number in nouns[i] for number, i in pairs)
    assert right / len(rows) > 0.88
    assert found / len(pairs) > 0.98
    assert found / len(nouns.ids) > 0.96
