"""Every public class stands in the API reference with an example, and all examples are true."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.example_files import copy_example_files

REFERENCE = Path(__file__).parents[2] / "docs" / "api"
NAMES = [name for page in sorted(REFERENCE.glob("*.md")) for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]
ROOMS = ("bank", "data", "evaluation", "index", "losses", "models", "models.published", "text", "video")
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.FAIL_FAST


def find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_reference_names_everything_once() -> None:
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("room", [*ROOMS, "video.encoders"])
def test_all_public_classes_of_a_room_are_in_the_reference(room: str) -> None:
    module = importlib.import_module(f"clep.{room}")
    classes = {name for name in module.__all__ if isinstance(getattr(module, name), type)}
    assert len(classes) >= 3
    assert not classes - {name.rpartition(".")[2] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = find(name)
    text = documented.__doc__ or ""
    if not isinstance(documented, type) and ">>>" not in text:
        pytest.skip("a function needs no example")
    assert ">>>" in text, f"{name} stands in docs/api, so its docstring needs an example"
    copy_example_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=report.append)
    assert not report, "".join(report)
