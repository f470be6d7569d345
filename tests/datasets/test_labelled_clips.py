import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from tests.in_child import in_child


def test_single_label_clips_survive_the_file(tmp_path):
    clips = LabelledClips("kinetics", ["é_000001_000011", "b"], ["x", "“y”"], label=np.array([1, 0]))
    clips.write(tmp_path / "clips.h5")
    opened = LabelledClips.open(tmp_path / "clips.h5")
    assert (opened.task, opened.ids, opened.classes) == ("kinetics", ["é_000001_000011", "b"], ["x", "“y”"])
    assert opened.label.tolist() == [1, 0]
    assert opened.labels is None
    assert opened.first_person is None
    assert len(opened) == 2


def test_multi_label_clips_survive_the_file(tmp_path):
    labels = np.array([[1, 0, 1], [0, 0, 0]], dtype=np.uint8)
    first_person = np.array([True, False])
    LabelledClips("ego_charades", ["a", "b"], ["x", "y", "z"], labels=labels, first_person=first_person).write(
        tmp_path / "clips.h5"
    )
    opened = LabelledClips.open(tmp_path / "clips.h5")
    assert np.array_equal(opened.labels, labels)
    assert opened.labels.dtype == np.uint8
    assert opened.first_person.tolist() == [True, False]
    with h5py.File(tmp_path / "clips.h5") as file:
        assert (file.attrs["format"], int(file.attrs["version"])) == (b"clep-clips", 3)
        assert all(file[name].dtype.kind == "S" for name in ("clip/id", "class/name"))
        assert file["clip/id"].asstr()[...].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, "have no classes"),
        ({"ids": ["a", "a"]}, "duplicate id 'a'"),
        ({"label": np.array([0, 2])}, "from 0 to 1"),
        ({"label": np.array([0, -1])}, "from 0 to 1"),
        ({"ids": ["a", "a\0"]}, "NUL"),
        ({"label": np.array([0])}, "2 clips"),
        ({"label": None, "labels": np.zeros((2, 3), dtype=np.uint8)}, r"shape \(2, 3\), expected \(2, 2\)"),
        ({"first_person": np.array([True])}, "1 values for 2 clips"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"task": "kinetics", "ids": ["a", "b"], "classes": ["x", "y"], "label": np.array([0, 1]), **change}
    with pytest.raises(InputError, match=message):
        LabelledClips(**given)


def test_one_kind_of_label_is_needed():
    with pytest.raises(ValueError, match="either label"):
        LabelledClips("kinetics", ["a"], ["x"])


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(InputError, match=r"clips\.h5 does not exist"):
        LabelledClips.open(tmp_path / "clips.h5")
    (tmp_path / "clips.h5").write_bytes(b"not hdf5")
    with pytest.raises(InputError, match=r"clips\.h5 is (damaged|not an HDF5 file|truncated)"):
        LabelledClips.open(tmp_path / "clips.h5")
    with h5py.File(tmp_path / "clips.h5", "w") as file:
        file.attrs["format"] = "clep-bank"
    with pytest.raises(InputError, match="not a file of labelled clips"):
        LabelledClips.open(tmp_path / "clips.h5")
    with h5py.File(tmp_path / "clips.h5", "w") as file:
        file.attrs.update({"format": "clep-clips", "version": 3, "task": "kinetics"})
    with pytest.raises(InputError, match=r"clips\.h5 is damaged"):
        LabelledClips.open(tmp_path / "clips.h5")


@pytest.mark.parametrize("times", [150, pytest.param(300, marks=pytest.mark.slow)])
def test_damage_is_an_error_and_never_a_wrong_value(tmp_path, times):
    """Single bits flipped and 64 bytes zeroed, read in a process of its own with a limit of time."""
    labels = np.random.default_rng(0).integers(0, 3, 200)
    LabelledClips("kinetics", [f"clip-{i:03d}" for i in range(200)], ["x", "y", "z"], label=labels).write(
        tmp_path / "clips.h5"
    )
    assert in_child(fuzz, str(tmp_path / "clips.h5"), times) > times // 3


def fuzz(path: str, count: int) -> int:
    """Damage the file `count` times; return how often it was refused. Otherwise all its values must be right."""
    whole, rng, refused = Path(path).read_bytes(), random.Random(0), 0
    before = LabelledClips.open(path)
    for _ in range(count):
        content, position = bytearray(whole), rng.randrange(len(whole))
        if rng.random() < 0.7:
            content[position] ^= 1 << rng.randrange(8)
        else:
            content[position : position + 64] = bytes(len(content[position : position + 64]))
        Path(path).write_bytes(content)
        try:
            opened = LabelledClips.open(path)
            assert (opened.task, opened.ids, opened.classes) == (before.task, before.ids, before.classes)
            assert np.array_equal(opened.label, before.label)
        except InputError:
            refused += 1
    return refused
