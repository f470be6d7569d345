import numpy as np
import pytest

from clep.bank import Clock
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.extraction.features import PackSettings
from clep.files import read_json
from clep.preprocess.clip_set import features_digest, prepare_clips, write_prompts
from clep.preprocess.kinetics import Kinetics

from .conftest import write_features


def test_every_clip_stays_and_those_without_features_are_listed(tmp_path, encoder):
    write_features(tmp_path / "features", {"b": 2})
    (tmp_path / "table.csv").write_text("x")
    clips = LabelledClips("kinetics", ["a", "b"], ["x"], label=np.zeros(2, dtype=np.int64))
    given = ([tmp_path / "table.csv"], tmp_path / "features", tmp_path / "out", PackSettings(Clock()))
    found = prepare_clips(clips, *given, overwrite=False, notes={"odd": ["a"]})
    assert LabelledClips.open(tmp_path / "out" / "clips.h5").ids == ["a", "b"]
    assert found["lists"]["clips_without_features"] == ["a"]
    assert found["lists"]["odd"] == ["a"]
    assert prepare_clips(clips, *given, overwrite=False, notes={})["up_to_date"]
    write_prompts(tmp_path / "out", ["x"], {"prompt": [["is x"]]}, "fake", 8, "cpu", overwrite=False)
    assert Kinetics(output_folder=tmp_path / "out", text_encoder="fake").missing_outputs() == []


def test_changed_prompts_are_embedded_again(tmp_path, encoder):
    for prompt in ("is x", "is an x"):
        written = write_prompts(tmp_path, ["x"], {"prompt": [[prompt]]}, "fake", 8, "cpu", overwrite=False)
        assert not written["up_to_date"]
        assert read_json(tmp_path / "prompts.json")["sets"] == {"prompt": [[prompt]]}
    assert encoder.encoded == ["is x", "is an x"]


def test_features_are_a_folder_of_files_a_bank_or_a_folder_of_banks(tmp_path):
    write_features(tmp_path / "features", {"b": 2})
    (tmp_path / "banks").mkdir()
    (tmp_path / "banks" / "one.h5").write_bytes(b"bank")
    digests = {features_digest(tmp_path / name) for name in ("features", "banks", "banks/one.h5")}
    assert len(digests) == 2
    with pytest.raises(InputError, match="nowhere does not exist"):
        features_digest(tmp_path / "nowhere")
