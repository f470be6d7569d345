import multiprocessing
import time

import pytest

from clep.errors import InputError
from clep.preprocess.alone import alone


def work(folder, name: str) -> None:
    with alone(folder / "out.h5"), (folder / "log").open("a") as log:
        log.write(f"{name} starts\n")
        log.flush()
        time.sleep(0.2)
        log.write(f"{name} ends\n")


def test_processes_take_turns(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = (tmp_path / "log").read_text().split("\n")[:-1]
    assert [line.split()[1] for line in lines] == ["starts", "ends", "starts", "ends"]
    assert lines[0][0] == lines[1][0]


def test_an_exception_frees_the_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), alone(tmp_path / "out.h5"):
            raise KeyboardInterrupt


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to the folder"), alone(tmp_path / "file" / "out.h5"):
        pass
