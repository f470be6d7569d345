from functools import partial

import pytest
import torch

from clep.demo.feature_files import write_feature_files
from clep.demo.frozen_encoder import EncoderSettings, FrozenEncoder
from clep.errors import InputError

_ENCODER = FrozenEncoder(0, EncoderSettings(dim=8))


def _makers(encoder, made):
    def rows(name):
        made.append(name)
        if name == "stop":
            raise KeyboardInterrupt
        return encoder.encode(name, 5.0, [])

    return lambda *names: [(name, partial(rows, name)) for name in names]


def _write(folder, makers, encoder=_ENCODER, dtype="float32"):
    return write_feature_files(folder, encoder, makers, dtype, "test", progress=False)


def test_a_stopped_run_is_continued(tmp_path):
    made = []
    makers = _makers(_ENCODER, made)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path, makers("a", "stop", "b"))
    there = {path.stem for path in tmp_path.glob("*.pt")}
    assert "a" in there
    assert there <= {"a", "b"}
    assert not list(tmp_path.glob(".*")), "nothing half-written stays"
    assert _write(tmp_path, makers("a", "b")) == {"written": 2 - len(there), "kept": len(there)}
    assert sorted(made) == ["a", "b", "stop"]
    assert torch.load(tmp_path / "a.pt", weights_only=True).shape == (9, 8)


def test_encoders_and_formats_do_not_mix(tmp_path):
    _write(tmp_path, _makers(_ENCODER, [])("a"))
    with pytest.raises(InputError, match=r"simulated\.json"):
        _write(tmp_path, _makers(_ENCODER, [])("b"), FrozenEncoder(1, EncoderSettings(dim=8)))
    with pytest.raises(InputError, match="number format"):
        _write(tmp_path, _makers(_ENCODER, [])("b"), dtype="float16")
    with pytest.raises(InputError, match="dtype"):
        _write(tmp_path, [], dtype="int8")


def test_features_of_unknown_origin_are_left_alone(tmp_path):
    torch.save(torch.zeros(3, 8), tmp_path / "real.pt")
    with pytest.raises(InputError, match="not simulated"):
        _write(tmp_path, _makers(_ENCODER, [])("a"))
    assert [path.name for path in tmp_path.iterdir()] == ["real.pt"]


def test_dtype(tmp_path):
    _write(tmp_path, _makers(_ENCODER, [])("a"), dtype="float16")
    assert torch.load(tmp_path / "a.pt", weights_only=True).dtype == torch.float16
