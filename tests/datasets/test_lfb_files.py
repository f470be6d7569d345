import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.datasets.ava_proposals import read_proposals
from clep.datasets.lfb_files import load_lfb, save_lfb
from clep.errors import InputError
from tests.preprocess.conftest import DIM, RunsCode, canary

__all__ = ["canary"]


def content(seed: int = 0) -> dict[str, dict[int, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return {
        video: {second: torch.randn(regions, DIM, generator=generator).half() for second, regions in seconds.items()}
        for video, seconds in {"b": {902: 1, 903: 4, 910: 2}, "a": {1800: 3}}.items()
    }


def same(first: dict, second: dict) -> bool:
    return [(v, list(s)) for v, s in first.items()] == [(v, list(s)) for v, s in second.items()] and all(
        rows.equal(second[video][at]) for video, seconds in first.items() for at, rows in seconds.items()
    )


@pytest.mark.parametrize("protocol", [None, 2, 4, 5])
@pytest.mark.parametrize("form", ["tensor", "list", "numpy"])
def test_every_way_in_which_such_files_were_written(tmp_path: Path, protocol: int | None, form: str) -> None:
    made = {"tensor": lambda x: x, "list": list, "numpy": lambda x: x.numpy()}[form]
    value = {video: {at: made(rows) for at, rows in seconds.items()} for video, seconds in content().items()}
    path = tmp_path / "lfb_train.pkl"
    if protocol is not None:
        path.write_bytes(pickle.dumps(value, protocol))
    elif form != "numpy":  # torch.load refuses arrays, and mmaction2 writes none
        torch.save(value, path)
        assert same(load_lfb(path), content())
        torch.save(value, path, _use_new_zipfile_serialization=False)
    else:
        return
    assert same(load_lfb(path), content())


def test_keys_may_be_numpy_integers_and_seconds_may_be_empty(tmp_path: Path) -> None:
    value = {"v": {np.int64(3): np.ones((2, DIM), np.float32), 4: torch.zeros(0, DIM), 5: []}, "none": {}}
    path = tmp_path / "lfb.pkl"
    path.write_bytes(pickle.dumps(value))
    found = load_lfb(path)
    assert {video: list(seconds) for video, seconds in found.items()} == {"v": [3], "none": {}} | {"none": []}
    assert type(next(iter(found["v"]))) is int


def test_what_is_saved_is_what_mmaction2_reads(tmp_path: Path) -> None:
    save_lfb(tmp_path / "lfb_val.pkl", content())
    assert same(torch.load(tmp_path / "lfb_val.pkl", weights_only=True), content())
    assert [path.name for path in tmp_path.iterdir()] == ["lfb_val.pkl"]


class Smuggled:
    """Passes code through the bytes of a storage, which PyTorch's own unpickling would run."""

    def __reduce__(self):
        return torch.storage._load_from_bytes, (pickle.dumps(RunsCode()),)


class Getattr:
    def __reduce__(self):
        return getattr, (1, "real")


@pytest.mark.parametrize("save", ["torch", "legacy", "pickle"])
@pytest.mark.parametrize(
    ("evil", "name"),
    [(RunsCode(), "(posix|nt).system"), (Getattr(), r"(builtins\.)?getattr"), (np.float64, "numpy.float")],
)
def test_a_file_that_pickles_code_is_refused(tmp_path: Path, canary: Path, save: str, evil: object, name: str) -> None:
    path = tmp_path / "lfb_train.pkl"
    value = {"v": {1: torch.ones(1, DIM)}, "w": {2: evil}}
    if save == "pickle":
        path.write_bytes(pickle.dumps(value))
    else:
        torch.save(value, path, _use_new_zipfile_serialization=save == "torch")
    with pytest.raises(InputError, match=rf"lfb_train\.pkl is an unsafe pickle: loading it would run {name}"):
        load_lfb(path)
    assert not canary.exists()


def test_code_inside_the_bytes_of_a_storage_is_refused(tmp_path: Path, canary: Path) -> None:
    path = tmp_path / "lfb_train.pkl"
    path.write_bytes(pickle.dumps({"v": {1: Smuggled()}}))
    with pytest.raises(InputError, match=r"lfb_train\.pkl"):
        load_lfb(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1], r"holds a list, expected .*\{video: \{second"),
        ({}, r"holds a dict, expected .*\{video: \{second"),
        ({"v": [1]}, "'v' holds a list, expected {second: features}"),
        ({"v": {"1": torch.ones(1, 2)}}, "'v' has the key '1', expected a whole second"),
        (
            {"v": {1: torch.ones(2)}},
            r"second 1 of video 'v' holds torch.float32 \[2\], expected features \[regions, dim\]",
        ),
        ({"v": {1: torch.ones(1, 2, dtype=torch.int64)}}, "holds torch.int64"),
        ({"v": {1: torch.ones(1, 2), 7: torch.ones(1, 3)}}, r"second 7 of video 'v' .*\[1, 3\].*\[regions, 2\]"),
        ({"v": {1: [torch.ones(2), torch.ones(3)]}}, "holds a list"),
        ({"v": {1: "x"}}, "holds a str"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, value: object, words: str) -> None:
    torch.save(value, tmp_path / "lfb.pkl")
    with pytest.raises(InputError, match=words):
        load_lfb(tmp_path / "lfb.pkl")


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "lfb.pkl"
    with pytest.raises(InputError, match=r"lfb\.pkl does not exist; check the path"):
        load_lfb(path)
    torch.save(content(), path)
    whole = path.read_bytes()
    for data in (b"", b"nonsense", whole[: len(whole) // 2], pickle.dumps(content())[:-20]):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"lfb\.pkl is (damaged|not a file)"):
            load_lfb(path)


class CallsNumpy:
    """Calls one of NumPy's own functions, which trust their arguments."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
    ("evil", "words"),
    [
        ([CallsNumpy(np.ndarray, (1, 5), "O", b"A" * 64)], "would run numpy.ndarray"),
        (CallsNumpy(np.ndarray, (1 << 40, 5), "f8"), "would run numpy.ndarray"),
        (np.array([[None] * 5], dtype=object), "arrays of the type 'O8' are not read"),
        (np.zeros(1, dtype=[("a", "O"), ("b", "f4")]), "arrays of the type 'V12' are not read"),
    ],
)
def test_arrays_over_arbitrary_bytes_are_refused(tmp_path: Path, evil: object, words: str, protocol: int) -> None:
    """The first of these ended the process when NumPy rebuilt it."""
    path = tmp_path / "some.pkl"
    path.write_bytes(pickle.dumps({"v,0902": evil}, protocol))
    for read in (load_lfb, read_proposals):
        with pytest.raises(InputError, match=rf"some\.pkl .*{words}"):
            read(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_arrays_of_every_protocol_are_read(tmp_path: Path, protocol: int, dtype: str, order: str) -> None:
    boxes = np.array([[0.1, 0.2, 0.5, 0.6, 0.9], [0, 0, 1, 1, 0.5]])
    array = np.array(boxes, dtype=dtype, order=order)
    value = {"v,0902": array, "w,0903": np.zeros((0, 5)), "x,0903": [array[0], [np.float64(x) for x in array[1]]]}
    (tmp_path / "some.pkl").write_bytes(pickle.dumps(value, protocol))
    found = read_proposals(tmp_path / "some.pkl")
    np.testing.assert_allclose(found.box, np.concatenate([boxes, boxes])[:, :4], rtol=1e-6)
    np.testing.assert_allclose(found.score, [0.9, 0.5, 0.9, 0.5], rtol=1e-6)


def test_a_small_file_of_many_rows_is_refused(tmp_path: Path) -> None:
    """Strides of 0 repeat one value: 2 TB of rows in a file of a kilobyte."""
    torch.save({"v": {1: torch.zeros(1, 1).expand(1 << 30, 512)}}, tmp_path / "lfb.pkl")
    with pytest.raises(InputError, match=r"second 1 of video 'v' holds torch.float32 \[1073741824, 512\]"):
        load_lfb(tmp_path / "lfb.pkl")
