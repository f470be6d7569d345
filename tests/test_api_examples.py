"""Every class in the API reference has an example, and all examples are true."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.example_files import copy_example_files

REFERENCE = Path(__file__).parents[1] / "docs" / "api"
NAMES = [name for page in sorted(REFERENCE.glob("*.md")) for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]


def find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_reference_lists_each_name_once() -> None:
    assert len(NAMES) == len(set(NAMES)) > 30


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
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST).run(example, out=report.append)
    assert not report, "".join(report)
