import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.errors import InputError
from tests.bank.banks import random_videos, write


@pytest.mark.parametrize("device", ["disk", "cpu"])
def test_several_files_are_one_bank(tmp_path: Path, device: str) -> None:
    parts = [random_videos(9, seed) for seed in range(3)]
    folder = tmp_path / "shards"
    for name, part in zip(["b.h5", "a.h5", "c.h5"], parts, strict=True):
        write(folder / name, part)
    one = write(tmp_path / "one.h5", parts[1] | parts[0] | parts[2])
    whole, sharded = FeatureBank.open(one, device), FeatureBank.open(folder, device)
    assert sharded.videos == whole.videos == [*parts[1], *parts[0], *parts[2]]
    assert sharded.first_row.equal(whole.first_row)
    video = torch.randint(0, 27, (500,))
    start = torch.rand(500, dtype=torch.float64) * 20
    windows = whole.window(video, start, start + 4)
    assert all(x.equal(y) for x, y in zip(windows, sharded.window(video, start, start + 4), strict=True))
    assert sharded.mean(*windows).equal(whole.mean(*windows))
    assert sharded.take(windows[0]).equal(whole.take(windows[0]))
    for mine, theirs in zip(sharded.rows(*windows, 3), whole.rows(*windows, 3), strict=True):
        assert mine.equal(theirs)
    assert sharded.long_term(video, start)[0].equal(whole.long_term(video, start)[0])
    for uid in whole.videos:
        assert sharded.video_rows(uid).equal(whole.video_rows(uid))


def test_irregular_shards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seconds = {f"{i}": np.sort(rng.uniform(0, 50, 30)) for i in range(6)}
    for name, uids in {"one.h5": range(6), "many/a.h5": range(3), "many/b.h5": range(3, 6)}.items():
        with BankWriter(tmp_path / name, 2, Clock.irregular(1.0)) as writer:
            for i in uids:
                writer.add(f"{i}", np.full((30, 2), i), seconds=seconds[f"{i}"])
    one, many = FeatureBank.open(tmp_path / "one.h5"), FeatureBank.open(tmp_path / "many")
    assert many.clock == Clock.irregular(1.0)
    video, start = torch.randint(0, 6, (99,)), torch.rand(99, dtype=torch.float64) * 50
    for align in ("centre", "start"):
        first, last = many.window(video, start, start + 2, align)
        assert first.equal(one.window(video, start, start + 2, align)[0])
        for i in range(99):
            own = one.clock.window(start[i], start[i] + 2, 30, align=align, seconds=seconds[str(int(video[i]))])
            assert (int(first[i]), int(last[i])) == tuple(int(x) + 30 * int(video[i]) for x in own)


def test_only_complete_banks_of_a_folder_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", {"a": np.ones((2, 2))})
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / ".b.1234.tmp.h5").write_bytes(whole[:1000])
    (tmp_path / "notes.txt").write_text("hello")
    with h5py.File(tmp_path / "clips.h5", "w") as file:
        file.attrs["format"] = "clep-narrations"
    assert FeatureBank.open(tmp_path).videos == ["a"]
    (tmp_path / "c.h5").write_bytes(whole[:1000])
    with pytest.raises(InputError, match=r"c\.h5 is truncated"):
        FeatureBank.open(tmp_path)


def test_a_folder_without_banks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no bank"):
        FeatureBank.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "other", "words"),
    [
        ("clock", {"clock": Clock(1.0, 1.0)}, "rows_per_second=1.875.* and rows_per_second=1, row_seconds=1"),
        ("encoder", {"encoder": "other"}, "this and other"),
        ("dim", {"videos": {"b": np.ones((2, 3))}}, "2 and 3"),
    ],
)
def test_files_that_differ_are_both_named(tmp_path: Path, name: str, other: dict, words: str) -> None:
    write(tmp_path / "a.h5", {"a": np.ones((2, 2))}, encoder="this")
    write(tmp_path / "b.h5", **({"videos": {"b": np.ones((2, 2))}, "encoder": "this"} | other))
    with pytest.raises(InputError, match=rf"a\.h5 and .*b\.h5 differ in {name}: {words}"):
        FeatureBank.open(tmp_path)


def test_a_video_in_two_files(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", {"x": np.ones((2, 2)), "y": np.ones((2, 2))})
    shutil.copy(tmp_path / "a.h5", tmp_path / "b.h5")
    with pytest.raises(InputError, match=r"'x' is in both .*a\.h5 and .*b\.h5"):
        FeatureBank.open(tmp_path)


def test_a_clock_other_than_the_stored_one_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"a": np.ones((2, 2))})
    assert FeatureBank.open(path, clock=Clock()).clock == Clock()
    with pytest.raises(InputError, match=r"has the clock \(rows_per_second=1\.875.*not \(rows_per_second=1,"):
        FeatureBank.open(path, clock=Clock(1.0, 1.0))
