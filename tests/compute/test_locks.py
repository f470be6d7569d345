import errno
import fcntl
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from clep.compute import locks
from clep.compute.locks import LockedError, file_lock
from clep.errors import InputError


def work(folder, name: str) -> None:
    with file_lock(folder / "out.h5"), (folder / "log").open("a") as log:
        log.write(f"{name} starts\n")
        log.flush()
        time.sleep(0.2)
        log.write(f"{name} ends\n")


def test_processes_lock_each_other_out(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = (tmp_path / "log").read_text().split("\n")[:-1]
    assert [line.split()[1] for line in lines] == ["starts", "ends", "starts", "ends"]
    assert lines[0][0] == lines[1][0]


@pytest.mark.parametrize(("held", "asked", "waits"), [(True, True, False), (True, False, True), (False, True, True)])
def test_shared_and_exclusive_locks(tmp_path, held, asked, waits):
    inside = threading.Event()

    def enter() -> None:
        with file_lock(tmp_path / "out.h5", shared=asked):
            inside.set()

    thread = threading.Thread(target=enter)
    with file_lock(tmp_path / "out.h5", shared=held):
        thread.start()
        assert inside.wait(0.1 if waits else 5) is not waits
    thread.join()
    assert inside.is_set()


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_file_system_locks_one_machine_still_locks(tmp_path, monkeypatch, caplog, error):
    flock = fcntl.flock

    def refuses(file, kind):
        if file.name.startswith(str(tmp_path / "disk")):
            raise OSError(error, "no locks")
        flock(file, kind)

    monkeypatch.setattr(locks.fcntl, "flock", refuses)
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))
    order = []

    def second() -> None:
        with file_lock(tmp_path / "disk" / "out.h5"):
            order.append("second")

    thread = threading.Thread(target=second)
    with file_lock(tmp_path / "disk" / "out.h5"):
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "out.h5 is on a file system without locks" in caplog.text


def test_an_exception_releases_the_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), file_lock(tmp_path / "out.h5"):
            raise KeyboardInterrupt


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder .*file"), file_lock(tmp_path / "file" / "out.h5"):
        pass


def test_a_lock_of_another_user_that_can_be_read_is_locked(tmp_path):
    (tmp_path / ".out.h5.lock").touch(mode=0o444)
    (tmp_path / ".private.h5.lock").touch(mode=0o400)
    tmp_path.chmod(0o755)
    code = """
        import os, sys
        from pathlib import Path
        from clep.compute.locks import LockedError, file_lock
        from clep.errors import InputError
        os.setgid(65534); os.setuid(65534)
        with file_lock(Path("out.h5")):
            print("locked")
        try:
            with file_lock(Path("private.h5")):
                print("wrong")
        except InputError as error:
            print(error)
    """
    if os.geteuid() != 0:
        pytest.skip("becomes another user")
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    locked, refused = done.stdout.splitlines()
    assert locked == "locked"
    assert ".private.h5.lock of user root" in refused
    assert "chmod a+r" in refused


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_lock_that_is_not_a_file_is_refused(tmp_path, kind):
    path = tmp_path / ".out.h5.lock"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match=r"\.out\.h5\.lock"), file_lock(tmp_path / "out.h5"):
        pass
    assert not (tmp_path / "other").exists()


def test_an_output_that_is_a_device_is_refused_before_the_work(tmp_path):
    with pytest.raises(InputError, match="cannot write /dev/zero: it is a device"), file_lock("/dev/zero"):
        pass
    assert not os.path.lexists("/dev/.zero.lock")


def test_outputs_with_long_names_have_locks(tmp_path):
    with file_lock(tmp_path / ("x" * 255)), file_lock(tmp_path / ("x" * 254 + "y")):
        pass


def test_a_wait_may_be_bounded(tmp_path: Path) -> None:
    with file_lock(tmp_path / "a"):
        started = time.monotonic()
        with pytest.raises(LockedError, match="a is locked"), file_lock(tmp_path / "a", wait_s=0.2):
            pass
        assert time.monotonic() - started >= 0.2
    with file_lock(tmp_path / "a", wait_s=0.0):
        pass
