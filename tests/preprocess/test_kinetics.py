import numpy as np
import pytest
import torch

from clep.bank import FeatureBank
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.files import read_json
from clep.preprocess.kinetics import Kinetics

from .conftest import DIM, embed, write_features

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
ROWS = [
    '"shaking hands",-abc_1,417,427,val,0',
    "abseiling,NA,36.0,46.0,val,0",
    "abseiling,00012345678,0,10,val,1",
    "zumba,nowhere,5,15,val,0",
    "zumba,NA,36,46,val,0",
]
IDS = ["-abc_1_000417_000427", "NA_000036_000046", "00012345678_000000_000010", "nowhere_000005_000015"]


def write_inputs(folder):
    (folder / "val.csv").write_text(HEADER + "\n".join(ROWS) + "\n")
    tensors = write_features(folder / "features", {IDS[0]: 1, IDS[1]: 3, "unlisted": 2})
    tensors[IDS[2]] = torch.arange(float(DIM))
    torch.save(tensors[IDS[2]], folder / "features" / f"{IDS[2]}.pt")
    return tensors


def run(folder, **options):
    options = {"csv": folder / "val.csv", "features": folder / "features", "text_encoder": "fake", **options}
    return Kinetics(output_folder=folder / "out", **options).run()


def test_labels_features_and_prompts(tmp_path, encoder):
    tensors = write_inputs(tmp_path)
    coverage = run(tmp_path, encoder="v")
    clips = LabelledClips.open(tmp_path / "out" / "clips.h5")
    assert clips.task == "kinetics"
    assert clips.ids == IDS
    assert clips.classes == ["abseiling", "shaking hands", "zumba"]
    assert clips.label.tolist() == [1, 0, 0, 2]
    bank = FeatureBank.open(tmp_path / "out" / "features.h5")
    assert list(bank.videos) == sorted(IDS[:3])
    assert bank.encoder == "v"
    for name in IDS[:3]:
        assert torch.equal(bank.video_rows(name), tensors[name].reshape(-1, DIM).half().float())
    assert coverage["lists"]["clips_without_features"] == [IDS[3]]
    assert coverage["lists"]["repeated_in_csv"] == [IDS[1]]
    assert (coverage["counts"]["clips"], coverage["counts"]["videos_packed"]) == (4, 3)

    listing = read_json(tmp_path / "out" / "prompts.json")
    assert listing["classes"] == clips.classes
    assert listing["sets"]["prompt"][1] == ["The person in this video is doing shaking hands"]
    assert (listing["encoder"], listing["dim"]) == ("fake", 4)
    prompts = FeatureBank.open(tmp_path / "out" / "prompts.fake.h5")
    expected = [embed(prompt) for (prompt,) in listing["sets"]["prompt"]]
    assert np.array_equal(prompts.video_rows("prompt").numpy(), np.stack(expected))


def test_a_bank_may_hold_the_features(tmp_path, encoder):
    write_inputs(tmp_path)
    run(tmp_path)
    (tmp_path / "copy").mkdir()
    (tmp_path / "out" / "features.h5").rename(tmp_path / "copy" / "bank.h5")
    for features in (tmp_path / "copy" / "bank.h5", tmp_path / "copy"):
        coverage = run(tmp_path, features=features, overwrite=True)
        assert coverage["lists"]["clips_without_features"] == [IDS[3]]
        assert list(FeatureBank.open(tmp_path / "out" / "features.h5").videos) == IDS[:3]


def test_lost_features_are_packed_again(tmp_path, encoder):
    write_inputs(tmp_path)
    run(tmp_path)
    (tmp_path / "out" / "features.h5").unlink()
    assert not run(tmp_path)["up_to_date"]
    assert run(tmp_path)["up_to_date"]


def test_another_sentence_encoder_leaves_the_features_alone(tmp_path, encoder):
    write_inputs(tmp_path)
    run(tmp_path)
    encoder.name = "other"
    again = run(tmp_path, text_encoder="other")
    assert again["up_to_date"]
    assert not again["prompts"]["up_to_date"]
    assert read_json(tmp_path / "out" / "prompts.json")["encoder"] == "other"
    assert (tmp_path / "out" / "prompts.fake.h5").exists()


def test_features_that_cannot_be_used_are_listed_once(tmp_path, encoder):
    write_inputs(tmp_path)
    (tmp_path / "features" / f"{IDS[0]}.pt").write_bytes(b"")
    lists = run(tmp_path)["lists"]
    assert list(lists["unreadable"]) == [IDS[0]]
    assert lists["clips_without_features"] == [IDS[3]]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("label,youtube_id,time_start\n", "a,b,1", r"val\.csv lacks the column 'time_end'; its columns are: label"),
        (HEADER, "a,b,soon,15,val,0", r"val\.csv, line 7: time_start is 'soon'"),
        (HEADER, ",b,1,15,val,0", r"val\.csv, line 7: label is empty"),
    ],
)
def test_a_csv_that_cannot_be_used_is_named(tmp_path, encoder, header, row, message):
    write_inputs(tmp_path)
    rows = [row] if header != HEADER else [*ROWS, row]
    (tmp_path / "val.csv").write_text(header + "\n".join(rows))
    with pytest.raises(InputError, match=message):
        run(tmp_path)
    assert not (tmp_path / "out").exists()


def test_features_of_other_clips_are_refused(tmp_path, encoder):
    write_inputs(tmp_path)
    write_features(tmp_path / "other", {"x": 1})
    with pytest.raises(InputError, match=r"features for none of the 4 clips; its files are called \['x'\]"):
        run(tmp_path, features=tmp_path / "other")
    with pytest.raises(InputError, match="nowhere does not exist; give a folder"):
        run(tmp_path, features=tmp_path / "nowhere")
