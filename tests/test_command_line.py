"""Options of commands: declared once; reading, checks and help follow."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from clep.command_line import options_help, read_options, run_command, split_words
from clep.errors import InputError


@dataclass(frozen=True)
class Base:
    """Options of several commands.

    Attributes:
        device: where the model computes.
        names: of the datasets.
    """

    device: str | None = None
    names: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Options(Base):
    """Options of one command.

    Attributes:
        run: a run's folder, or `a.ckpt` in it.
        size, rate: of something.
        fast: whether it is fast.
        kind: which rule holds.
    """

    run: str
    size: int = 3
    rate: float | None = None
    fast: bool = False
    kind: Literal["old", "new"] = "new"


def function(run: str, rest: list[str], size: int = 3) -> None:
    """Do something.

    Args:
        run: a run's folder.
        rest: no option.
        size: of something.
    """


def read(*words: str) -> dict[str, Any]:
    return read_options(Options, words, "clep.test", positional="run")


def test_values_have_the_declared_types() -> None:
    words = ("run=runs/a=b, [c]", "size=4", "rate=1e-2", "fast=yes", "names=[a,'b,c', d]", "kind=old")
    assert read(*words) == {
        "run": "runs/a=b, [c]", "size": 4, "rate": 0.01, "fast": True, "names": ["a", "b,c", "d"], "kind": "old",
    }  # fmt: skip
    assert read("run=3", "names=2019_05_12") == {"run": "3", "names": ["2019_05_12"]}
    assert read("run=a", "names=films[1]")["names"] == ["films[1]"]
    assert read("run=null", "rate=null", "device=null") == {"run": "null", "rate": None, "device": None}
    assert Options(**read("run=a")) == Options(run="a")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run=VALUE is needed: a run's folder, or a.ckpt in it"),
        (["run=a", "sizes=3"], "clep.test has no option 'sizes'. Did you mean 'size'?"),
        (["run=a", "data=x"], "clep.test has no option 'data'. It is a setting of the training"),
        (["run=a", "~size=3"], "clep.test has no option '~size'"),
        (["runs/a"], "Did you mean run=runs/a?"),
        (["--run", "a"], "Did you mean run=a?"),
        (["ckpt", "a"], "Did you mean run=a?"),
        (["run=a", "siez"], "'siez' is not key=value. Did you mean 'size'?"),
        (["run=~/a"], 'write "run=$HOME/a"'),
        (["run="], "run is given without a value; write run=VALUE once"),
        (["run=a", "run=b"], "run is given twice; write run=VALUE once"),
        (["run=a", "size=many"], "size='many' is of type str"),
        (["run=a", "size=8k"], "write size=8000"),
        (["run=a", "size=null"], "size='null'"),
        (["run=a", "fast=maybe"], "fast=maybe must be true or false"),
        (["run=a", "names=[a"], "names=[a cannot be read; a list is written 'names=[a,b]'"),
        (["run=a", "kind=newer"], "kind=newer is unknown. Did you mean 'new'?"),
    ],
)
def test_wrong_words_are_answered(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as raised:
        read(*words)
    assert message in str(raised.value)


def test_a_function_declares_options_too() -> None:
    names = ("run", "size")
    assert read_options(function, ["run=a", "size=1"], "clep.test", names) == {"run": "a", "size": 1}
    with pytest.raises(InputError, match=r"no option 'rest'\. Choose from: run, size"):
        read_options(function, ["run=a", "rest=b"], "clep.test", names)
    assert "rest" not in options_help(function, names)


def test_other_words_are_kept_for_the_settings() -> None:
    given, others = split_words(["out=a", "data.x=", "~callbacks", "data.x=1"], ["out"])
    assert given == {"out": "a"}
    assert others == ["data.x=", "~callbacks", "data.x=1"]
    with pytest.raises(InputError, match="Did you mean models=avion_b"):
        split_words(["avion_b"], ["models"], choices={"models": ["avion_b"]})


def test_help_has_every_option_with_meaning_and_default() -> None:
    lines = options_help(Options, rate=2.5).splitlines()
    assert [line.split()[0] for line in lines] == ["run", "size", "rate", "fast", "kind", "device", "names"]
    assert lines[0] == "run     a run's folder, or a.ckpt in it"
    assert lines[1:4] == [
        "size    of something (default: 3)",
        "rate    of something (default: 2.5)",
        "fast    whether it is fast (default: false)",
    ]
    assert lines[6] == "names   of the datasets"


def test_the_exit_status(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    def run(words: list[str]) -> int | None:
        match words:
            case ["wrong"]:
                raise InputError("a.csv is empty")
            case ["ctrl-c"]:
                raise KeyboardInterrupt
            case ["stop"]:
                signal.raise_signal(signal.SIGTERM)
            case ["failed"]:
                return 1
        return None

    def status(*words: str, **options: bool) -> int:
        return run_command(run, lambda given: f"help for {given}", words, **options)

    assert (status("fine"), status("failed"), status("wrong")) == (0, 1, 1)
    assert "error: a.csv is empty" in caplog.text
    assert (status("ctrl-c"), status("stop")) == (130, 128 + signal.SIGTERM)
    assert "stopped by signal 15" in caplog.text
    assert not capsys.readouterr().out
    assert status("a", "--help") == status() == status(needs_words=False) == 0
    assert capsys.readouterr().out == "help for ['a', '--help']\nhelp for []\n"
