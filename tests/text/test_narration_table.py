import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from clep.errors import InputError
from clep.text import NarrationTable
from tests.text.sample_table import about, passes, table


@pytest.fixture
def small(tmp_path: Path) -> NarrationTable:
    rows = [(1.0, "#C C cuts bread"), (2.0, "#C C eats"), (2.5, "#C C eats")]
    return table(tmp_path, {"é-b": passes(rows), "a": passes(None, rows)}, [about("é-b", em="train"), about("a")])


BROKEN = {
    "video": (np.array([0, 0, 0, 1, 1, 9], np.int32), "video has an index out of range"),
    "second": (np.array([1, np.nan, 3, 1, 2, 3.0]), "a second is negative, infinite or not a number"),
    "passes": (np.ones(5, np.int8), "columns differ in length"),
    "text_id": (np.array([0, 1, 1, 0, 1, -1], np.int32), "text_id has an index out of range"),
    "written_id": (np.array([0, 1, 1, 0, 1, 2], np.int32), "written_id has an index out of range"),
    "words": (np.ones(1, np.int16), "columns differ in length"),
    "videos": (("é-b", "a"), "videos are not sorted"),
    "tag_style": ("other", "tag_style is 'other'"),
    "duration_s": (np.ones(3), "duration_s, redacted or a split"),
    "splits": ({}, "splits are not split_em"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_tables_are_refused(small: NarrationTable, name: str) -> None:
    value, message = BROKEN[name]
    with pytest.raises(InputError, match=message):
        rebuilt(small, name, value)


def rebuilt(table: NarrationTable, name: str, value: object) -> None:
    """Run the check as without jaxtyping, which in tests would refuse wrong lengths first."""
    broken = copy.copy(table)
    object.__setattr__(broken, name, value)
    broken.__post_init__()


def test_unsorted_and_negative_seconds_are_refused(small: NarrationTable) -> None:
    with pytest.raises(InputError, match="not sorted by video and second"):
        rebuilt(small, "second", small.second[::-1].copy())
    with pytest.raises(InputError, match="negative"):
        rebuilt(small, "second", small.second - 1.5)


def test_a_nul_in_an_id_is_refused(small: NarrationTable) -> None:
    with pytest.raises(InputError, match="NUL"):
        rebuilt(small, "videos", ("a", "é-b\0"))


def test_file_opens_in_pandas(small: NarrationTable, tmp_path: Path) -> None:
    small.write(tmp_path / "n.arrow")
    frame = pd.read_feather(tmp_path / "n.arrow")
    assert list(frame) == ["video", "second", "pass", "text", "written", "words"]
    assert frame["video"].tolist() == [small.videos[index] for index in small.video]
    assert frame["second"].tolist() == small.second.tolist()
    assert frame["pass"].tolist() == small.passes.tolist()
    assert frame["text"].tolist() == [small.texts[index] for index in small.text_id]
    assert frame["written"].tolist() == [small.written[index] for index in small.written_id]
    assert frame["words"].tolist() == small.words.tolist()


def test_a_failed_write_leaves_the_old_file(small: NarrationTable, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "out" / "n.arrow"
    small.write(path)
    before = path.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pa.ipc, "new_file", full)
    with pytest.raises(InputError, match="No space left"):
        small.write(path)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["n.arrow"]
