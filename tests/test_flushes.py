"""The recorder of flushes finds each way of losing a file in a power cut."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clep.files import atomic_path, flush, flush_files, write_json
from tests.flushes import recorded_flushes

ROOT = Path(__file__).parents[1]


def whole(folder: Path) -> None:
    with atomic_path(folder / "a") as temporary:
        temporary.write_text("x")
    (folder / "old").unlink()


def not_flushed(folder: Path) -> None:
    (folder / "new").write_text("x")
    (folder / "new").replace(folder / "a")
    flush(folder)


def changed_after_its_flush(folder: Path) -> None:
    (folder / "new").write_text("x")
    flush(folder / "new")
    (folder / "new").write_text("longer")
    os.rename(folder / "new", folder / "a")  # noqa: PTH104 - another spelling
    flush(folder)


def folder_not_flushed(folder: Path) -> None:
    with atomic_path(folder / "a", durable=False) as temporary:
        temporary.write_text("x")
        flush(temporary)


def many_small_ones(folder: Path) -> None:
    for name in "ab":
        with atomic_path(folder / name, durable=False) as temporary:
            temporary.write_text("x")
    flush_files([folder / "a", folder / "b"])
    write_json(folder / "c", {})


def one_of_many_not_flushed(folder: Path) -> None:
    for name in "ab":
        with atomic_path(folder / name, durable=False) as temporary:
            temporary.write_text("x")
    flush_files([folder / "a"])
    write_json(folder / "c", {})
    flush_files([folder / "b"])


def removed_too_early(folder: Path) -> None:
    (folder / "new").write_text("x")
    flush(folder / "new")
    (folder / "new").replace(folder / "a")
    shutil.rmtree(folder / "shards")
    flush(folder)


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (whole, None),
        (not_flushed, "a is renamed before its content is flushed"),
        (changed_after_its_flush, "a is renamed before its content is flushed"),
        (folder_not_flushed, "the folder of a is never flushed"),
        (many_small_ones, None),
        (one_of_many_not_flushed, "b is renamed before its content is flushed"),
        (removed_too_early, "shards/b is removed before the folder of a is flushed"),
    ],
)
def test_each_fault_is_found(tmp_path: Path, write: Callable[[Path], None], fault: str | None) -> None:
    (tmp_path / "old").write_text("x")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "b").write_text("x")
    with recorded_flushes(tmp_path, by=ROOT) as record:
        write(tmp_path)
    assert record.faults[:1] == ([] if fault is None else [fault])
