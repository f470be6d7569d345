"""Names that a config may build: what is allowed by its text, what is found behind a name, and where names stand."""

import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from clep.config.targets import (
    ANYTHING,
    REGISTERED,
    REGISTERED_ONLY,
    Targets,
    allowed,
    check_targets,
    find_parts,
    find_target,
    find_targets,
    is_dotted,
    targets_in_folder,
)
from clep.errors import InputError

MINE = """
import os
from torch import nn


class Part:
    class Inner:
        pass


def function():
    pass


value = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a package of the user, with a module `parts` and one that lacks a library."""
    (tmp_path / "targets_mine").mkdir()
    (tmp_path / "targets_mine" / "__init__.py").touch()
    (tmp_path / "targets_mine" / "parts.py").write_text(MINE)
    (tmp_path / "targets_mine" / "lacking.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "targets_mine"
    for name in [name for name in sys.modules if name.partition(".")[0] == "targets_mine"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["clep.losses.ClipLoss", "torch.nn.Linear", "mine", "mine.a", "mine.a.b", "other.One"])
def test_names_that_are_allowed(name: str) -> None:
    assert allowed(["mine", "other.One"]).check(name, "model") == name


@pytest.mark.parametrize(
    "name",
    [
        *("minestrone.Part", "other.Two", "other.One2", "os.system", "clep.files.write_json", "mine._hidden.Part"),
        *("mine.__builtins__.eval", "mine..Part", "mine.Part ", "mine.Part\n", "mine.1", "mine;os", "torch.nn.init"),
        *("torch.nn.Module.__init__", "torch.nn.Linear.forward", "torch.nn.functional.relu", "torch.hub.load"),
    ],
)
def test_names_that_are_not_allowed(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.video\._target_=.* is not allowed"):
        allowed(["mine", "other.One"]).check(name, "model.video")


@pytest.mark.parametrize("name", [None, "", 3, ["clep.losses.ClipLoss"], {"a": 1}, True])
def test_values_that_are_no_names(name: object) -> None:
    for targets in (REGISTERED_ONLY, ANYTHING):
        with pytest.raises(InputError, match=r"^_target_=.*expected the dotted name of a class"):
            targets.check(name, "")


def test_the_message_gives_the_option_and_the_registered_name() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'clep\.losses\.ClipLoss'\? .*allow=\[clep\.ClipLoss\]"):
        REGISTERED_ONLY.check("clep.ClipLoss", "loss")
    with pytest.raises(InputError, match=r"allow=\[mine\] \(in Python allow=\[\"mine\"\]\)"):
        REGISTERED_ONLY.check("mine.losses.Own", "loss")


def test_typed_names_may_be_functions_and_read_ones_may_not(mine: str) -> None:
    name = f"{mine}.parts.function"
    assert find_target(name, "x", allowed(typed=[name])).__name__ == "function"
    assert find_target(name, "x", ANYTHING).__name__ == "function"
    with pytest.raises(InputError, match=r"x\._target_=.*no class that is defined there"):
        find_target(name, "x", allowed(mine))


@pytest.mark.parametrize("name", ["parts.os.PathLike", "parts.nn.Linear"])
def test_a_class_that_an_allowed_module_only_imports_is_refused(mine: str, name: str) -> None:
    """Otherwise `allow=[mine]` would allow every class of every library that `mine` imports."""
    with pytest.raises(InputError, match="no class that is defined there"):
        find_target(f"{mine}.{name}", "x", allowed(mine))


def test_classes_are_found(mine: str) -> None:
    assert find_target(f"{mine}.parts.Part", "x", allowed(f"{mine}.")).__qualname__ == "Part"
    assert find_target(f"{mine}.parts.Part.Inner", "x", allowed(mine)).__qualname__ == "Part.Inner"
    assert find_target("torch.nn.GELU", "x", REGISTERED_ONLY) is torch.nn.GELU
    assert find_target("collections.OrderedDict", "x", ANYTHING) is OrderedDict


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.Part", r"there is no module 'nowhere'"),
        ("{mine}.parts.Prat", r"targets_mine\.parts has no 'Prat'; did you mean 'Part'\?"),
        ("{mine}.nothing.Part", r"targets_mine has no 'nothing'"),
        ("{mine}.lacking.Part", r"targets_mine\.lacking needs 'a_library_that_is_not_there'"),
        ("{mine}.parts.value", "neither a class nor a function"),
        ("Part", r"expected module\.Class"),
        ("a b.Part", r"expected module\.Class"),
    ],
)
def test_what_cannot_be_imported_is_named(mine: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^x\._target_.*{message}|^x\._target_: {message}"):
        find_target(name.format(mine=mine), "x", ANYTHING)


def test_a_name_that_is_not_allowed_is_not_imported(mine: str) -> None:
    with pytest.raises(InputError, match="is not allowed"):
        find_target(f"{mine}.parts.Part", "x", REGISTERED_ONLY)
    assert mine not in sys.modules


CONFIG = {
    "_target_": "a.A",
    "x": {"_target_": "b.B", "y": [{"z": 1}, {"_target_": "c.C"}, ({"_target_": "d.D"},)]},
    3: {"_target_": None},
    "text": "_target_: e.E",
}


def test_parts_are_found_at_any_depth_with_their_keys() -> None:
    found = {"": "a.A", "x": "b.B", "x.y[1]": "c.C", "x.y[2][0]": "d.D", "3": None}
    assert dict(find_targets(CONFIG)) == found
    assert dict(find_targets(CONFIG, "model")) == {
        f"model.{key}" if key else "model": name for key, name in found.items()
    }
    assert [part["_target_"] for _, part in find_parts(CONFIG)] == list(found.values())
    assert list(find_targets(["a", 1, None])) == []
    with pytest.raises(InputError, match=r"^model\.x\.y\[1\]\._target_='c\.C' is not allowed"):
        check_targets(CONFIG, Targets(allow=("a", "b", "d")), "model")


def test_names_in_the_files_of_a_config_folder(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "own.yaml").write_text(
        "_target_: mine.Own\nx: {_target_: 'mine.Two'}\n\"_target_\" : mine.Three"
    )
    (tmp_path / "loss" / "broken.yaml").write_bytes(b"a: [\xff\n_target_: mine.Four")
    (tmp_path / "notes.txt").write_text("_target_: mine.Five")
    assert targets_in_folder(tmp_path) == {"mine.Own", "mine.Two", "mine.Three", "mine.Four"}
    assert targets_in_folder(tmp_path / "none") == frozenset()


def test_registered_names_are_dotted_names_of_public_classes() -> None:
    assert all(is_dotted(name) and name.startswith("clep.") and "._" not in name for name in REGISTERED)
    assert not any(map(is_dotted, ("", ".", "a.", ".a", "a b", "1a", None, 3)))
