"""A run records its parts from outside clep as text, and messages give the options that they need."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from clep.config.own_parts import RECORD, explain_refusal, missing_options, record_parts
from clep.config.targets import REGISTERED_ONLY, allowed
from clep.errors import InputError
from clep.files import read_json

NAME = f"{__name__}.Mine"


class Mine:
    """A part of the user's own."""


def recorded(folder: Path, *config_dirs: str) -> Path:
    parts = {"loss": {"_target_": NAME}, "data": {"_target_": "clep.data.Window"}, "x": [{"_target_": "torch.nn.ReLU"}]}
    usual = {"trainer": {"_target_": "pytorch_lightning.Trainer"}, "optim": {"_target_": "clep.training.adamw"}}
    record_parts(folder, parts | usual, config_dirs)
    return folder


def test_parts_of_ones_own_are_recorded(tmp_path: Path) -> None:
    content = read_json(recorded(tmp_path, str(tmp_path / "conf")) / RECORD)
    assert content["parts"] == [{"key": "loss", "name": NAME, "file": __file__}]
    assert content["config_dirs"] == [str(tmp_path / "conf")]


def test_a_run_of_clep_alone_leaves_no_record(tmp_path: Path) -> None:
    record_parts(tmp_path, {"loss": {"_target_": "clep.losses.ClipLoss"}})
    assert not (tmp_path / RECORD).exists()
    assert missing_options(tmp_path, REGISTERED_ONLY) == ""


def test_the_options_that_are_missing(tmp_path: Path) -> None:
    folder = recorded(tmp_path, "/a b/conf")
    assert missing_options(folder, REGISTERED_ONLY) == "allow=[tests] --config-dir '/a b/conf'"
    assert "allow" not in missing_options(folder, allowed(["tests."]))
    assert missing_options(folder, allowed(["tests"]), "/a b/conf") == ""
    named = re.escape(f"{NAME} ({shlex.quote(__file__)})")
    with pytest.raises(InputError, match=rf"^no such file\. .*{named}.*add allow=\[tests\] --config-dir"):
        with explain_refusal(folder, REGISTERED_ONLY):
            raise InputError("no such file")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"parts": 3}',
        '{"parts": [3], "config_dirs": []}',
        "[" * 100_000,
        json.dumps({"parts": [{"name": "a b; rm", "file": ""}, {"name": ["x"], "file": ""}], "config_dirs": []}),
    ],
)
def test_a_strangers_record_is_data(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    assert missing_options(tmp_path, REGISTERED_ONLY) == ""


def test_a_strangers_record_writes_no_control_characters(tmp_path: Path) -> None:
    part: dict[str, Any] = {"name": "theirs.Part", "file": "\x1b[2J"}
    (tmp_path / RECORD).write_text(json.dumps({"parts": [part], "config_dirs": ["\x1b]0;x"]}))
    with pytest.raises(InputError) as refused, explain_refusal(tmp_path, REGISTERED_ONLY):
        raise InputError("no such file")
    assert "theirs.Part" in str(refused.value)
    assert str(refused.value).isprintable()
