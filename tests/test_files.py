import contextlib
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clep.errors import InputError
from clep.files import (
    atomic_path,
    check_input,
    check_output,
    make_folder,
    open_input,
    read_json,
    remove_temporaries,
    temporaries,
    temporaries_in,
    write_json,
)

ROOT = Path(__file__).parents[1]


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


def test_a_full_disk_is_an_error_with_file_and_remedy(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "b": {"x": 1, "x": 2}}', "the key 'x' occurs twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"[1" + b"0" * 400 + b"]", "more than 64 bits"),
        (b"1" + b"0" * 5_000_000, "more than 64 bits"),
        (b"[18446744073709551616]", "more than 64 bits"),
        (rb'["a\ud800b"]', "surrogate"),
        (rb'[{"\uDFFF": 1}]', "surrogate"),
        (b'["\xed\xa0\x80"]', "invalid continuation byte"),
        (rb'{"a": [{"id": "ab\u0000"}]}', "NUL"),
        (b'["a\0b"]', "Invalid control character"),
    ],
)
def test_hostile_json_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"bad\.json is not valid JSON.*{message}"):
        read_json(tmp_path / "bad.json")
    assert time.monotonic() - started < 2


def test_unusual_json_is_read(tmp_path: Path) -> None:
    text = (
        r'{"face": "\ud83d\ude00", "path": "C:\\u0000", "big": [18446744073709551615, -9223372036854775808], "x": NaN}'
    )
    (tmp_path / "a.json").write_text("\ufeff" + text, encoding="utf-8")
    found = read_json(tmp_path / "a.json")
    assert found.pop("x") != 0
    assert found == {"face": "😀", "path": r"C:\u0000", "big": [2**64 - 1, -(2**63)]}


def test_names_that_are_not_utf8_are_written_as_escapes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {os.fsdecode(b"bad\xe9.avi"): "skipped"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {os.fsdecode(b"bad\xe9.avi"): "skipped"}


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
        (tmp_path / ".a[1].h5.notes.h5").touch()
        (tmp_path / ".a[1].h52.0123abcd.tmp.h5").touch()
        assert temporaries(target) == [temporary]
        with atomic_path(target) as other:
            assert temporary.exists(), "its writer is alive"
            other.touch()
        (tmp_path / ".a[1].h5.0123abcd.tmp.h5").touch()
    assert temporaries(target) == [tmp_path / ".a[1].h5.0123abcd.tmp.h5"]
    remove_temporaries(target)
    assert names(tmp_path) == [".a[1].h5.notes.h5", ".a[1].h52.0123abcd.tmp.h5", "a[1].h5"]


KILLED = """
    import os, signal, sys
    from clep.files import atomic_path
    with atomic_path(sys.argv[1]) as temporary:
        temporary.write_text("half")
        temporary.with_suffix(".rows").write_text("more")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(target)]).returncode == -signal.SIGKILL
    left = names(tmp_path)
    assert len(left) == 2
    assert all(name.startswith(".a.h5.") for name in left)
    other_machine = tmp_path / f".a.h5.{'0' * 8}{left[0][14:30]}.tmp.h5"
    other_machine.touch()
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == [other_machine.name, "a.h5"]
    remove_temporaries(target)
    assert names(tmp_path) == ["a.h5"]


def test_the_file_and_its_folders_are_flushed_in_the_order_that_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        done.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().relative_to(tmp_path)}")
        fsync(descriptor)

    def recorded_replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    with atomic_path(tmp_path / "new" / "er" / "a.bin") as temporary:
        temporary.write_bytes(b"x")
        assert done == ["flush new", "flush ."]
    assert done[2:] == [f"flush new/er/{temporary.name}", "rename", "flush new/er"]
    with atomic_path(tmp_path / "b", durable=False) as temporary:
        temporary.write_bytes(b"x")
    assert done[5:] == ["rename"]


def special(folder: Path, kind: str) -> tuple[Path, str]:
    path = folder / "special"
    if kind == "pipe":
        os.mkfifo(path)
        return path, "a named pipe"
    if kind == "socket":
        with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as made:  # the whole path may be too long for one
            made.bind(path.name)
        return path, "a socket"
    if kind == "device":
        return Path("/dev/zero"), "a device"
    if kind == "link to a device":
        path.symlink_to("/dev/zero")
        return path, "a device"
    if kind == "system":
        return Path("/proc/kmsg"), "belongs to the operating system"
    if kind == "dangling link":
        path.symlink_to(folder / "gone")
        return path, "gone, which does not exist"
    path.mkdir()
    return path, "a folder"


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a device", "system", "dangling link", "folder"])
@pytest.mark.parametrize("read", [check_input, open_input, read_json])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, kind: str, read: Callable[[Path], object]) -> None:
    path, message = special(tmp_path, kind)
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"^{path} .*{message}"):
        read(path)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a/" * 3000])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    for access in (open_input, check_input, make_folder):
        with pytest.raises(InputError):
            access(tmp_path / name)


def test_links_to_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("a")
    with open_input(tmp_path / "link") as file:
        assert file.read() == b"content"
    assert check_input(str(tmp_path / "link")) == tmp_path / "link"


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a device", "dangling link", "link"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    if kind == "link":
        (tmp_path / "other").write_text("of somebody")
        (tmp_path / "special").symlink_to("other")
        path = tmp_path / "special"
    else:
        path, _ = special(tmp_path, kind)
    before = os.lstat(path)
    with pytest.raises(InputError, match=rf"cannot write {path}: it is a .*(choose|remove)"), atomic_path(path):
        pytest.fail("nothing is written")
    after = os.lstat(path)
    assert (after.st_mode, after.st_ino, after.st_mtime_ns) == (before.st_mode, before.st_ino, before.st_mtime_ns)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device")
def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    device = tmp_path / "null"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(InputError, match="it is a device"):
        write_json(device, 1)
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_link_to_a_folder_may_hold_outputs(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    check_output(tmp_path / "out")
    write_json(tmp_path / "out" / "a.json", 1)
    assert names(tmp_path / "disk") == ["a.json"]


@pytest.mark.parametrize("name", ["x" * 238 + ".json", "é" * 121, "x" * 10 + "." + "y" * 240, "x" * 255])
def test_long_names(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
        assert temporaries(tmp_path / name) == [temporary]
        assert temporaries(tmp_path / (name[:-1] + "z")) == []
    assert names(tmp_path) == [name]


def test_a_working_folder_that_was_deleted(tmp_path: Path) -> None:
    code = """
        import os, shutil, sys
        from clep.errors import InputError
        from clep.files import read_json, write_json
        os.chdir(sys.argv[1])
        shutil.rmtree(sys.argv[1])
        for use in (lambda: read_json("a.json"), lambda: write_json("a.json", 1), lambda: write_json("b/a", 1)):
            try:
                use()
            except InputError as error:
                print(error)
    """
    (tmp_path / "gone").mkdir()
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "gone")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(printed) == 3
    assert "a.json" in printed[0]


def test_a_command_in_a_folder_that_was_deleted_ends_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = "import os, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); os.execv(sys.executable, sys.argv[2:])"
    command = [
        sys.executable,
        "-c",
        code,
        str(tmp_path / "gone"),
        sys.executable,
        "-m",
        "clep.train",
        "experiment=demo",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr == "error: the current folder has been deleted; change into one that exists (cd DIR)\n"


def test_the_temporaries_of_a_folder_are_those_of_all_its_files(tmp_path: Path) -> None:
    first, second, third = (atomic_path(tmp_path / name) for name in ("a.json", "no suffix", "last.ckpt"))
    with first as one, second as two, third as three:
        for path in (one, two, three, tmp_path / ".hidden.tmp", tmp_path / "a.json.tmp"):
            path.touch()
        assert temporaries_in(tmp_path) == sorted([one, two, three])
    assert temporaries_in(tmp_path) == temporaries_in(tmp_path / "none") == []
