from pathlib import Path

import pytest

from tests.drills.records import code_digest

CODE = '''
"""A module."""
import logging
log = logging.getLogger(__name__)

def halve(number: int) -> int:
    """Return half of it."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    log.info("half of %d", number)
    return number // 2  # exact
'''
WORDING = [
    ("A module.", "The module."),
    ("Return half of it.", "Return the half."),
    ("is odd", "is not even"),
    ("half of %d", "halved: %d"),
    ("  # exact", ""),
]
BEHAVIOUR = [
    ("number % 2", "number % 4"),
    ("{number} is odd", "{-number} is odd"),
    ("log.info", "log.debug"),
    ("int:", "str:"),
]


def digest(root: Path, code: str) -> str:
    (root / "clep").mkdir(exist_ok=True)
    (root / "clep" / "numbers.py").write_text(code)
    return code_digest(["numbers.py"], root)


@pytest.mark.parametrize(("old", "new"), WORDING)
def test_the_digest_of_code_ignores_wording(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert digest(tmp_path, CODE) == digest(tmp_path, CODE.replace(old, new))


@pytest.mark.parametrize(("old", "new"), BEHAVIOUR)
def test_the_digest_of_code_changes_with_what_the_code_does(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert digest(tmp_path, CODE) != digest(tmp_path, CODE.replace(old, new))
