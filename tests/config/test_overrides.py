"""Overrides `key=value`: written so that Hydra reads them back, and read as data."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clep.config.overrides import (
    leaves_out_evaluators,
    listed,
    override,
    plain_value,
    plain_values,
    read_overrides,
    split_config_dir,
    split_config_dirs,
    typed_targets,
)
from clep.errors import InputError

TEXTS = st.text("ab1 '\"\\$={}[](),:~+@.é", max_size=8)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.floats(-1e3, 1e3), TEXTS)
KEYS = st.sampled_from(["a", "b_c", "x1"])  # Hydra's grammar takes no quotes around the keys of a dict
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


@given(VALUES)
@example([""])
@example(["\\"])
@example({"a": "b\\"})
def test_a_written_value_is_read_back(value: Any) -> None:
    def escaped(found: Any) -> Any:
        """Return the value with each `${` escaped, as OmegaConf, which removes the backslash, is given it."""
        if isinstance(found, str):
            return found.replace("${", "\\${")
        if isinstance(found, list):
            return [escaped(one) for one in found]
        return {key: escaped(one) for key, one in found.items()} if isinstance(found, dict) else found

    assert plain_value(override("key", value)) == escaped(value)


def test_keys_lose_their_signs_and_packages() -> None:
    words = ["+data.new=3", "~logger", "++seed=1", "encoder@evaluator.probe.encoder=clip", "lr=1e-3,1e-4"]
    keys = ["data.new", "logger", "seed", "encoder", "lr"]
    assert [key for key, _ in plain_values(words)] == keys
    assert plain_value("a=extend_list(1)") is None
    assert plain_value("a=[(") is None


@pytest.mark.parametrize(
    ("words", "rest", "folders"),
    [
        (["a=1", "--config-dir", "mine", "b=2"], ["a=1", "b=2"], ["mine"]),
        (["-cd", "mine", "--config-dir=other"], [], ["mine", "other"]),
        (["hydra.searchpath=[file://mine,pkg://theirs]", "a=1"], ["a=1"], ["mine"]),
        (["a=1"], ["a=1"], []),
    ],
)
def test_config_folders_of_a_command_line(words: list[str], rest: list[str], folders: list[str]) -> None:
    assert split_config_dirs(words) == (rest, folders)


def test_config_folders_that_are_refused() -> None:
    with pytest.raises(InputError, match="--config-dir needs a folder"):
        split_config_dir(["a=1", "--config-dir"])
    with pytest.raises(InputError, match="one config folder can be given, not mine and other"):
        split_config_dir(["-cd", "mine", "-cd", "other"])


@pytest.mark.parametrize(
    ("setting", "words", "expected"),
    [
        ("skip", [], True),
        ("skip", ["evaluator=kinetics"], False),
        ("skip", ["evaluator=kinetics", "missing_evaluators=skip"], True),
        ("error", [], False),
        (None, [], False),
    ],
)
def test_evaluators_that_the_user_typed_are_not_left_out(setting: str | None, words: list[str], expected: bool) -> None:
    assert leaves_out_evaluators(setting, words) is expected


def test_targets_that_the_user_typed() -> None:
    words = ["loss._target_=mine.Loss", "+a={x: [{_target_: mine.Part}]}", "b=mine.Other"]
    assert typed_targets(words) == {"mine.Loss", "mine.Part"}


def test_a_list_of_names() -> None:
    assert listed("kinetics") == ["kinetics"]
    assert listed("[kinetics, 'retrieval',]") == ["kinetics", "retrieval"]
    assert listed("[]") == []


@pytest.mark.parametrize("content", ["a: 1", "- 3", "- [a=1]", "- {a: 1}"])
def test_what_a_run_left_is_a_list_of_texts(tmp_path: Path, content: str) -> None:
    path = tmp_path / "overrides.yaml"
    path.write_text("- a=1\n- '+b=[1,2]'\n")
    assert read_overrides(path) == ["a=1", "+b=[1,2]"]
    path.write_text("")
    assert read_overrides(path) == []
    path.write_text(content)
    with pytest.raises(InputError, match=r"overrides\.yaml is not a list of overrides key=value"):
        read_overrides(path)
