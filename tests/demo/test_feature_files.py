import threading
from functools import partial

import pytest
import torch

from clep.demo.encoder import EncoderSettings, FrozenEncoder
from clep.demo.feature_files import write_feature_files, write_files
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
    with pytest.raises(InputError, match="encoder or dtype"):
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


def test_items_are_written_by_threads_of_one_core_each(tmp_path):
    torch.set_num_threads(2)
    seen = {}

    def write(path, item):
        seen[item] = (torch.get_num_threads(), threading.current_thread().name)
        path.write_text(str(item))

    (tmp_path / "3.txt").write_text("kept")
    counts = write_files(tmp_path, ".txt", [(str(n), n) for n in range(50)], write, "test", progress=False)
    assert counts == {"written": 49, "kept": 1}
    assert (tmp_path / "3.txt").read_text() == "kept"
    assert sorted(seen) == [n for n in range(50) if n != 3]
    assert {threads for threads, _ in seen.values()} == {1}
    assert threading.main_thread().name not in {name for _, name in seen.values()}
    assert torch.get_num_threads() == 2


def test_an_exception_ends_the_work_and_settings_return(tmp_path):
    torch.set_num_threads(2)

    def write(path, item):
        if item == 3:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        write_files(tmp_path, ".txt", [(str(n), n) for n in range(1000)], write, "test", progress=False)
    assert torch.get_num_threads() == 2
