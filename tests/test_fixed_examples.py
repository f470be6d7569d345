"""Examples of property tests in `make test` are the same wherever, and after whatever, a test runs."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn() -> list[tuple[int, str]]:
    """Return the examples of a property test."""
    examples: list[tuple[int, str]] = []

    @settings(max_examples=150)
    @given(st.integers(), st.text())
    def of_a_test(number: int, text: str) -> None:
        examples.append((number, text))

    of_a_test()
    return examples


@pytest.mark.skipif(os.environ.get("CLEP_HYPOTHESIS") == "fuzz", reason="`make fuzz` draws new examples")
def test_they_do_not_depend_on_the_modules_that_were_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = drawn()
    (tmp_path / "constants.py").write_text("\n".join(f"X{i} = {123456 + 7 * i}, 'word {i}'" for i in range(400)))
    spec = importlib.util.spec_from_file_location("constants_of_a_test", tmp_path / "constants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, spec.name, module)
    assert drawn() == before
    assert len(set(before)) > 100
