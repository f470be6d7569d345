"""Plug-ins of installed packages: choices of their groups by name, imported only when chosen."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from clep.config import plugins
from clep.config.compose import compose_config
from clep.config.plugins import chosen_plugins, installed_plugins, plugin_names
from clep.config.targets import ANYTHING, REGISTERED_ONLY, find_target
from clep.errors import InputError
from clep.preprocess.job import choices

MODULE = "a_plugin_of_the_tests"
SOURCE = """
from clep.evaluation import Evaluator

class Constant(Evaluator):
    def measure(self, model):
        return {"constant": 1.0}
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with a plug-in of each kind, one of which cannot be imported."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    (tmp_path / f"{MODULE}_broken.py").write_text("raise RuntimeError('needs a newer driver')")
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("plugged", f"{MODULE}:Constant", "clep.evaluators"),
        EntryPoint("plugged_source", f"{MODULE}:Source", "clep.datasets"),
        EntryPoint("plugged_broken", f"{MODULE}_broken:Encoder", "clep.encoders"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [one for one in points if one.group == group])
    installed_plugins.cache_clear()
    yield
    installed_plugins.cache_clear()
    for group, name in (("evaluator", "plugged"), ("data", "plugged_source"), ("encoder", "plugged_broken")):
        ConfigStore.instance().repo.get(group, {}).pop(f"{name}.yaml", None)
    sys.modules.pop(MODULE, None)


def test_they_are_listed_and_not_imported() -> None:
    assert plugin_names("evaluator") == ["plugged"]
    assert "plugged_broken" in choices("encoder")
    assert "plugged" not in choices("encoder")
    assert MODULE not in sys.modules


def test_each_kind_is_a_choice_of_its_group() -> None:
    words = ["experiment=ego4d_clip", "paths.run=x", "data=plugged_source", "evaluator=[retrieval,plugged]"]
    cfg: Any = OmegaConf.to_container(compose_config("train", words), resolve=True)
    assert cfg["evaluator"]["plugged"] == {"_target_": f"{MODULE}.Constant"}
    assert cfg["evaluator"]["retrieval"]["source"] == {"_target_": f"{MODULE}.Source"}
    assert cfg["data"]["sources"] == {"ego4d": {"_target_": f"{MODULE}.Source"}}
    assert cfg["data"]["window"]["align"] == "centre"
    assert MODULE not in sys.modules
    assert find_target(f"{MODULE}.Constant", "evaluator.plugged", ANYTHING).__name__ == "Constant"


def test_a_misspelt_name_gets_the_plug_in_as_suggestion() -> None:
    with pytest.raises(InputError, match=r"there is no evaluator=pluged\. Did you mean evaluator=plugged\?"):
        compose_config("train", ["evaluator=pluged"])


def test_a_broken_plug_in_names_itself() -> None:
    named = rf"^the plug-in 'plugged_broken' of the package {MODULE}_broken \(entry point clep\.encoders\) "
    with pytest.raises(InputError, match=f"{named}cannot be imported: RuntimeError: needs a newer driver"):
        find_target(f"{MODULE}_broken.Encoder", "encoder", ANYTHING)
    with pytest.raises(InputError, match=r"'plugged_source'.*has no 'Source'"):
        find_target(f"{MODULE}.Source", "data.sources.ego4d", ANYTHING)


def test_a_name_that_a_file_gives_imports_no_plug_in() -> None:
    with pytest.raises(InputError, match="is not allowed"):
        find_target(f"{MODULE}.Constant", "evaluator.plugged", REGISTERED_ONLY)
    assert MODULE not in sys.modules
    assert chosen_plugins([("evaluator", ["retrieval", "plugged"]), ("seed", 3)]) == {f"{MODULE}.Constant"}
