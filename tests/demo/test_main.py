"""The command line `python -m clep.demo`."""

from dataclasses import fields

import pytest

from clep.demo import SyntheticObjectives
from clep.demo.__main__ import DATASETS, FUNCTIONS, main, usage

_SMALL = ["training_videos=1", "test_videos=1", "shortest_s=60", "longest_s=60", "encoder.dim=8", "encoder.hidden=4"]


def test_a_dataset_is_generated_with_settings_of_the_command_line(tmp_path, capsys, caplog):
    out = tmp_path / "data"
    assert main(["objectives_dataset", f"out={out}", "seed=2", "progress=false", *_SMALL]) == 0
    assert "'videos': 2" in capsys.readouterr().out
    description = SyntheticObjectives.read(out)
    assert description["seed"] == 2
    assert description["settings"]["encoder"]["dim"] == 8
    assert description["settings"]["encoder"]["row_noise"] == SyntheticObjectives().encoder.row_noise
    assert main(["objectives_dataset", f"out={out}", "seed=3", "progress=false", *_SMALL]) == 1
    assert "seed 2, requested 3" in caplog.text


def test_features_of_existing_narrations(tmp_path):
    assert main(["narrations", f"out_folder={tmp_path}", "n_videos=1", "n_narrations=4"]) == 0
    inputs = [f"narration_json={tmp_path}/narration.json", f"ego4d_json={tmp_path}/ego4d.json"]
    assert main(["features", *inputs, f"out_folder={tmp_path}/features", "progress=false"]) == 0
    assert len(list((tmp_path / "features").glob("*.pt"))) == 1
    files = [f"source={tmp_path}/narration.json", f"target={tmp_path}/shuffled.json"]
    assert main(["shuffled", *files]) == 0
    assert (tmp_path / "shuffled.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["feature_datasets"], "Did you mean 'feature_dataset'"),
        (["video_dataset", "out=x", "widht=64"], "video_dataset has no option 'widht'. Did you mean 'width'"),
        (["video_dataset", "out=x", "width=63"], "SyntheticVideos: width must be even and at least 64, got 63"),
        (["video_dataset", "out=x", "width=wide"], "width"),
        (["video_dataset", "width=64"], "out"),
        (["ava_dataset", "out=x", "encoder.dim=3"], "encoder"),
        (["long_term_dataset", "out=x", "encoder.dimm=3"], "Did you mean 'dim'"),
        (["features", "out_foldr=x"], "Did you mean 'out_folder'"),
        (["features", "out_folder"], "'out_folder' is not key=value"),
        (["features", "--out-folder", "x"], "Did you mean out_folder=x?"),
        (["ava_dataset", "out=~/x"], "$HOME/x"),
        (["ava_dataset", "out=x", "out=y"], "out is given twice"),
    ],
)
def test_wrong_commands_are_named(words, message, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert message in caplog.text
    assert not list(tmp_path.iterdir())


def test_the_help_names_every_command_and_option(capsys):
    assert main([]) == main(["--help"]) == 0
    assert capsys.readouterr().out.split() == 2 * usage().split()
    for name, kind in DATASETS.items():
        assert f"\n{name}\n" in usage()
        assert all(f"{item.name}=" in usage() for item in fields(kind))
    for name in FUNCTIONS:
        assert f"\n{name}\n" in usage()
