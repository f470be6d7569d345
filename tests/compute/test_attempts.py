from pathlib import Path

import pytest
import yaml

from clep.compute import Local, Slurm
from clep.compute.attempts import Attempts, Outcome, describe_exit, log_path
from clep.config.build import build_typed
from clep.config.check import check_config
from clep.config.folder import config_folder
from clep.config.targets import ANYTHING


def test_a_failed_task_is_retried() -> None:
    attempts = Attempts("ab", retries=1)
    assert attempts.take() == "a"
    attempts.settle("a", Outcome("bad luck"))
    assert list(attempts.waiting) == ["b", "a"]
    attempts.take()
    attempts.settle("b", Outcome())
    assert attempts.take() == "a"
    assert attempts.count("a") == 2
    attempts.settle("a", Outcome("bad luck again"))
    assert not attempts.waiting
    assert attempts.failures == {"a": "bad luck again"}


def test_a_final_failure_is_not_retried() -> None:
    attempts = Attempts("a", retries=5)
    attempts.take()
    attempts.settle("a", Outcome("no video", final=True))
    assert not attempts.waiting
    assert attempts.failures == {"a": "no video"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((0, "ended with exit status 0"), (3, "ended with exit status 3")),
        *((-9, "killed by signal 9 (out of memory?)"), (-11, "killed by signal 11 (SIGSEGV)")),
        (-125, "killed by signal 125"),
    ],
)
def test_how_a_process_ended(status: int, expected: str) -> None:
    assert describe_exit(status) == expected


@pytest.mark.parametrize("task", ["..", "../up", "/etc/passwd", "a/b", "", "é" * 300, "x" * 300, "a\0b", "a\nb"])
def test_a_log_stays_in_its_folder(tmp_path: Path, task: str) -> None:
    path = log_path(tmp_path, task)
    path.write_text("")
    assert list(tmp_path.iterdir()) == [path]


def test_logs_of_two_tasks_are_two_files() -> None:
    names = ["a/b", "a%2Fb", "a_b", "a b", "x" * 300, "x" * 301]
    assert len({log_path(Path(), name) for name in names}) == len(names)


@pytest.mark.parametrize(("name", "kind"), [("local", Local), ("slurm", Slurm)])
def test_the_config_has_every_option_at_its_default(name: str, kind: type) -> None:
    text = (config_folder() / "compute" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    config = yaml.safe_load(text)
    check_config(config, targets=ANYTHING)
    built = build_typed(config)
    assert type(built) is kind
    assert vars(built) == vars(kind())
    assert set(config) == {"_target_", *vars(built)}
