import dataclasses
import sys
from pathlib import Path

import jaxtyping
import pytest

from tests import type_checks

SOURCE = """
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float


def plain(count: int) -> str:
    return "x" * count if count else 0


def shaped(left: Float[torch.Tensor, "n d"], right: Float[torch.Tensor, "m d"] | None = None) -> int:
    return len(left)


def first(rows: Float[torch.Tensor, "n d"], wrong: bool = False) -> Float[torch.Tensor, "d"]:
    return rows[:, 0] if wrong else rows[0]


def later(count: "int | Unknown") -> tuple["Unknown", int]:
    return count, count


@contextmanager
def opened(count: int) -> Iterator[int]:
    yield count


@dataclass
class Plain:
    count: int

    @property
    def twice(self) -> str:
        return 2 * self.count


@dataclass
class Shaped:
    rows: Float[torch.Tensor, "n d"]
    ids: "Float[torch.Tensor, 'n'] | None" = None
"""


@pytest.mark.parametrize("everything", [True, False])
def test_types_and_shapes_are_enforced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: bool) -> None:
    import torch

    (tmp_path / "checked_here.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "checked_here", raising=False)
    finders = list(sys.meta_path)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path)
    monkeypatch.setattr(jaxtyping, "jaxtyped", jaxtyping.jaxtyped)
    type_checks.install("checked_here", everything)
    import checked_here

    sys.meta_path[:] = finders
    rows = torch.zeros(2, 3)
    assert checked_here.plain(2) == "xx"
    assert checked_here.shaped(rows, torch.zeros(5, 3)) == 2
    assert checked_here.first(rows).shape == (3,)
    assert checked_here.later(3) == (3, 3)
    with checked_here.opened(3) as count:
        assert count == 3
    assert dataclasses.asdict(checked_here.Plain(1)) == {"count": 1}
    assert checked_here.Shaped(rows, torch.zeros(2)).ids is not None
    plain = (
        lambda: checked_here.plain("2"),
        lambda: checked_here.plain(0),
        lambda: checked_here.opened("3").__enter__(),
        lambda: checked_here.Plain("1"),
        lambda: checked_here.Plain(1).twice,
    )
    for wrong in (
        *(plain if everything else ()),
        lambda: checked_here.shaped(rows, torch.zeros(5, 4)),
        lambda: checked_here.shaped(torch.zeros(2)),
        lambda: checked_here.first(rows, wrong=True),
        lambda: checked_here.Shaped(torch.zeros(2, dtype=torch.int64)),
        lambda: checked_here.Shaped(rows, torch.zeros(5)),
    ):
        with pytest.raises(TypeError):
            wrong()
