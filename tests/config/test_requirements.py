"""What parts declare is compared with the settings, whoever wrote the part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clep.config.requirements import Need, check_requirements, files_read
from clep.errors import InputError


class Data:
    """A data part with two settings."""

    def __init__(self, pool: str = "mean", tokens: dict | None = None) -> None: ...


class Tower:
    """A part of the user's own that declares what it needs."""

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return config["needs"]


class Reader:
    """A part that reads two files."""

    reads = ("bank", "folder")


def settings(needs: dict[str, Any], **data: Any) -> dict[str, Any]:
    here = f"{__name__}."
    parts = {"data": {"_target_": f"{here}Data", **data}, "model": {"video": {"_target_": f"{here}Tower"}}}
    parts["model"]["video"]["needs"] = needs
    return {**parts, "callbacks": {"last": {}}, "chunk_size": 8}


@pytest.mark.parametrize(
    "needs",
    [
        {},
        {"data.pool": "mean"},  # the default
        {"data.pool": Need("mean")},
        {"data.tokens": None},
        {"data.window.pool": "rows"},  # this data has no window
        {"callbacks.last": ...},
        {"chunk_size": 8},
    ],
)
def test_settings_that_a_part_requires_pass(needs: dict[str, Any]) -> None:
    check_requirements(settings(needs))


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (
            {"data.pool": "rows"},
            r"^model\.video: Tower needs data\.pool=rows, but data\.pool is mean; set data\.pool=r",
        ),
        ({"data.tokens": ...}, r"Tower needs data\.tokens, but data\.tokens is null; set data\.tokens$"),
        ({"callbacks.best": ...}, r"callbacks\.best is null"),
        ({"data.tokens.length": 3}, r"Tower needs data\.tokens\.length=3, but data\.tokens\.length is null"),
        (
            {"chunk_size": Need(None, "batch statistics", "lower data.batch_size")},
            r"needs chunk_size=null \(batch statistics\), but chunk_size is 8; lower data\.batch_size$",
        ),
    ],
)
def test_what_is_not_is_named_with_the_remedy(needs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_requirements(settings(needs))


def test_a_setting_that_is_given_wins_over_the_default() -> None:
    check_requirements(settings({"data.pool": "rows", "data.tokens.length": 3}, pool="rows", tokens={"length": 3}))


def test_files_of_all_parts() -> None:
    reader = {"_target_": f"{__name__}.Reader", "bank": "a/x.h5", "folder": None, "name": "b/y.h5"}
    other = {"_target_": f"{__name__}.Data", "bank": "c/z.h5"}
    assert files_read({"a": [reader], "b": {"c": {**reader, "folder": "d"}}, "e": other}) == {Path("a/x.h5"), Path("d")}
