import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from clep.errors import InputError
from clep.files import atomic_path, read_json, temporaries, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "rows.h5"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".h5"
        assert temporary.name.startswith(".")
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["rows.h5"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_any_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(type(error)) as caught, atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert caught.value is error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_full_disk_is_told_with_the_file_and_the_remedy(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with pytest.raises(InputError, match=r"cannot write .*a\.bin: No space left on device.*free some space"):
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"some")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_device_that_is_really_full(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"), atomic_path(tmp_path / "a") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 100_000)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot make the folder .*file"), atomic_path(tmp_path / "file" / "a"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*folder"), atomic_path(tmp_path / "folder") as temporary:
        temporary.write_text("a folder is in the way")
    assert names(tmp_path) == ["file", "folder"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a") as one, atomic_path(tmp_path / "a") as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"  # the outer block ended last
    assert names(tmp_path) == ["a"]


def test_ctrl_c_in_the_middle_of_a_write(tmp_path: Path) -> None:
    """The signal itself, in a process of its own."""
    code = """
        import signal, sys, time
        from clep.files import atomic_path
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
        with atomic_path(sys.argv[1]) as temporary:
            temporary.write_text("half")
            print("writing", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    assert names(tmp_path) == []


def test_json_survives_and_is_readable(tmp_path: Path) -> None:
    value = {"è": [1, 2.5, None, True], "nested": {"a": "“b”"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "è" in text
    assert "“b”" in text
    assert text.endswith("}\n")
    assert len(text.splitlines()) > 5


def test_what_is_not_a_number_becomes_null_at_any_depth(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    write_json(tmp_path / "a.json", {"a": nan, "b": [inf, -inf, 1.0], "c": {"d": (nan, 2)}, 7: "seven"})
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, None, 1.0],
        "c": {"d": [None, 2]},
        "7": "seven",
    }


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe{}", b"nothing", b'{"a": 1}{'])
def test_json_that_is_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.json is not valid JSON .*truncated"):
        read_json(tmp_path / "bad.json")


def test_json_that_is_missing_or_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json does not exist"):
        read_json(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=r"folder\.json cannot be read"):
        read_json(tmp_path / "folder.json")


def test_temporaries_are_those_of_writers_of_one_file(tmp_path: Path) -> None:
    target = tmp_path / "a[1].h5"
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        (tmp_path / ".a[1].notes.h5").touch()
        (tmp_path / ".a[1]2.0123abcd.tmp.h5").touch()
        assert temporaries(target) == [temporary]
