import numpy as np
import pytest

from clep.bank import FeatureBank
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.files import read_json
from clep.preprocess.ego_charades import EgoCharades

from .conftest import write_features

HEADER = "id,subject,scene,actions,length,egocentric,charades_video\n"
ROWS = [
    'AAAAAEGO,S1,"Kitchen, small",c002 11.90 21.20;c000 0.00 12.60,31.5,Yes,AAAAA',
    "AAAAA,S1,Kitchen,c000 0.00 12.60;c000 20.0 21.0,30.2,No,AAAAA",
    "BBBBBEGO,S2,Hall,,12.0,Yes,BBBBB",
    "CCCCC,S2,Hall,c002 1.0 2.0,,No,CCCCC",
]
IDS = ["AAAAAEGO", "AAAAA", "BBBBBEGO", "CCCCC"]
CLASSES = "c000 Holding some clothes\nc001 Someone is Smiling\n\nc002 Opening a door\n"


def write_inputs(folder):
    (folder / "test.csv").write_text(HEADER + "\n".join(ROWS) + "\n")
    (folder / "classes.txt").write_text(CLASSES)
    return write_features(folder / "features", {"AAAAAEGO": 58, "AAAAA": 3, "BBBBBEGO": 2})


def run(folder, **options):
    options = {
        "csv": folder / "test.csv", "classes": folder / "classes.txt", "features": folder / "features",
        "text_encoder": "fake", **options,
    }  # fmt: skip
    return EgoCharades(output_folder=folder / "out", **options).run()


def test_label_matrix_first_person_and_features(tmp_path, encoder):
    write_inputs(tmp_path)
    coverage = run(tmp_path)
    clips = LabelledClips.open(tmp_path / "out" / "clips.h5")
    assert clips.task == "ego_charades"
    assert clips.ids == IDS
    assert clips.classes == ["Holding some clothes", "Someone is Smiling", "Opening a door"]
    assert clips.labels.tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert clips.first_person.tolist() == [True, False, True, False]
    bank = FeatureBank.open(tmp_path / "out" / "features.h5")
    assert list(bank.videos) == sorted(IDS[:3])
    # 58 rows fit 31.5 s; 3 rows contradict 30.2 s, so that duration is not kept.
    assert bank.duration_s[1] == 31.5
    assert np.isnan(bank.duration_s[0].item())
    lists = coverage["lists"]
    assert lists["clips_without_features"] == ["CCCCC"]
    assert lists["first_person_videos"] == ["AAAAAEGO", "BBBBBEGO"]
    assert lists["videos_without_labels"] == ["BBBBBEGO"]
    assert lists["classes_without_videos"] == ["Someone is Smiling"]
    assert list(lists["rows_disagree_with_duration"]) == ["AAAAA", "BBBBBEGO"]


def test_three_sets_of_prompts(tmp_path, encoder):
    write_inputs(tmp_path)
    run(tmp_path)
    sets = read_json(tmp_path / "out" / "prompts.json")["sets"]
    assert list(sets) == ["label", "ego_prompt", "exo_prompt"]
    assert [templates[0] for templates in sets["ego_prompt"]] == [
        "Camera wearer is holding some clothes", "Camera wearer is smiling", "Camera wearer is opening a door",
    ]  # fmt: skip
    bank = FeatureBank.open(tmp_path / "out" / "prompts.fake.h5")
    assert list(bank.videos) == list(sets)
    assert bank.n_rows == 9


def test_several_csv_files_are_joined(tmp_path, encoder):
    write_inputs(tmp_path)
    (tmp_path / "train.csv").write_text(HEADER + ROWS[0] + "\nDDDDD,S,Hall,c001 0 1,5,No,DDDDD\n")
    coverage = run(tmp_path, csv=[str(tmp_path / "test.csv"), str(tmp_path / "train.csv")])
    assert LabelledClips.open(tmp_path / "out" / "clips.h5").ids == [*IDS, "DDDDD"]
    assert coverage["lists"]["repeated_in_csv"] == ["AAAAAEGO"]


def test_up_to_date_until_a_label_changes(tmp_path, encoder):
    write_inputs(tmp_path)
    run(tmp_path)
    again = run(tmp_path)
    assert again["up_to_date"]
    assert again["prompts"]["up_to_date"]
    (tmp_path / "test.csv").write_text(HEADER + "\n".join(ROWS).replace("c000", "c001"))
    again = run(tmp_path)
    assert not again["up_to_date"]
    assert again["prompts"]["up_to_date"]


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        (HEADER.replace("egocentric,", "") + "A,s,h,,1,x", r"test\.csv lacks the column 'egocentric'"),
        (
            HEADER + "A,s,h,c099 1 2,1,Yes,A",
            r"video 'A': the action 'c099' .* is not among the 3 classes of .*classes\.txt",
        ),
        (HEADER + "A,s,h,,1,Maybe,A", "egocentric is 'Maybe'; write Yes or No"),
        (HEADER, "has a header but no rows"),
        ("", "is not a readable table"),
    ],
)
def test_a_csv_that_cannot_be_used_is_named(tmp_path, encoder, csv, message):
    write_inputs(tmp_path)
    (tmp_path / "test.csv").write_text(csv)
    with pytest.raises(InputError, match=message):
        run(tmp_path)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("", "lists no class"),
        ("\n \n", "lists no class"),
        ("c000\n", "line 1"),
        ("c000 a\nc000 b\n", "duplicate class"),
    ],
)
def test_classes_that_cannot_be_used_are_named(tmp_path, encoder, classes, message):
    write_inputs(tmp_path)
    (tmp_path / "classes.txt").write_text(classes)
    with pytest.raises(InputError, match=rf"classes\.txt.*{message}"):
        run(tmp_path)


def test_an_empty_list_of_csv_files_is_refused(tmp_path, encoder):
    write_inputs(tmp_path)
    with pytest.raises(InputError, match="empty list"):
        run(tmp_path, csv=[])
