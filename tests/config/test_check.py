from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from clep.config import check
from clep.config.check import check_call, did_you_mean
from clep.config.targets import ANYTHING, REGISTERED_ONLY
from clep.errors import InputError

HEAD = {"_target_": "clep.models.ProjectionHead", "in_dim": 3, "out_dim": 4}
TRAINER = {"_target_": "pytorch_lightning.Trainer"}


def check_config(config: Any) -> None:
    """Check a config as one that the user typed."""
    check.check_config(config, targets=ANYTHING)


class Part:
    """What a config may name; one parameter of each kind."""

    def __init__(
        self,
        size: int,
        rate: float = 0.1,
        name: str | None = None,
        betas: tuple[float, float] = (0.9, 0.99),
        mode: Literal["a", "b"] = "a",
        path: Path | None = None,
        flag: bool = False,
        splits: list[str] | tuple[str, ...] = (),
        limit: int | float | None = None,
        count: list[int] | str | int = 1,
        inner: "Part | None" = None,
        untyped=None,
        **rest: Any,
    ) -> None:
        self.size = size


class Strict:
    """Takes nothing else than what it names."""

    def __init__(self, learning_rate: float = 0.1, batch_size: int = 3) -> None:
        self.given = learning_rate, batch_size


def checked(**values: Any) -> None:
    check_call(Part, {"size": 1, **values}, "data.part", built=False)


@pytest.mark.parametrize(
    "values",
    [
        {"size": 3},
        {"rate": 1},
        {"rate": 1e-3},
        {"name": None},
        {"betas": [0.9, 0.98]},
        {"betas": [0, 1]},
        {"mode": "b"},
        {"path": "some/folder"},
        {"flag": True},
        {"splits": ["val", "test"]},
        {"limit": 3},
        {"limit": 0.5},
        {"limit": None},
        {"count": "auto"},
        {"count": [0, 1]},
        {"untyped": object()},
        {"whatever": "goes where a part takes any keyword"},
        {"inner": {"_target_": "clep.models.ProjectionHead", "in_dim": 1, "out_dim": 1}},
        {"splits": [{"_target_": "builtins.str"}]},
    ],
)
def test_what_fits_passes(values: dict[str, Any]) -> None:
    checked(**values)


def test_a_part_that_was_not_built_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"data\.part\.mode=.* is of type dict"):
        check_call(Part, {"size": 1, "mode": {"_target_": "builtins.str"}}, "data.part")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": "abc"}, r"data\.part\.size='abc' is of type str, but Part takes int there"),
        ({"size": 3.5}, r"data\.part\.size=3\.5 is of type float, but Part takes int"),
        ({"size": True}, r"data\.part\.size=True is of type bool, but Part takes int"),
        ({"size": None}, r"data\.part\.size=None is nothing \(null\), but Part takes int"),
        ({"rate": "1e-3x"}, r"data\.part\.rate='1e-3x' is of type str, but Part takes float"),
        ({"rate": False}, r"data\.part\.rate=False is of type bool"),
        ({"count": True}, r"data\.part\.count=True is of type bool"),
        ({"limit": True}, r"data\.part\.limit=True is of type bool"),
        ({"flag": 1}, r"data\.part\.flag=1 is of type int, but Part takes bool"),
        ({"name": 3}, r"data\.part\.name=3 is of type int, but Part takes .*str"),
        ({"betas": [0.9]}, r"data\.part\.betas=\[0\.9\] is of type list, but Part takes tuple\[float, float\]"),
        ({"betas": [0.9, "x"]}, r"data\.part\.betas"),
        ({"betas": 0.9}, r"data\.part\.betas=0\.9 is of type float"),
        ({"mode": "c"}, r"data\.part\.mode=c is unknown\. Choose from: a, b\."),
        ({"path": 3}, r"data\.part\.path=3"),
        ({"splits": "val"}, r"data\.part\.splits='val'"),
        ({"splits": [1]}, r"data\.part\.splits=\[1\]"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked(**values)


def test_unknown_keys_get_a_suggestion() -> None:
    with pytest.raises(
        InputError, match=r"optim\.batchsize: Strict has no option 'batchsize'. Did you mean 'batch_size'"
    ):
        check_call(Strict, {"batchsize": 3}, "optim")
    with pytest.raises(InputError, match=r"optim\.zebra: .* Choose from: learning_rate, batch_size\."):
        check_call(Strict, {"zebra": 3}, "optim")


def test_missing_arguments_are_listed_unless_the_rest_comes_later() -> None:
    with pytest.raises(InputError, match="data.part: Part needs 'size'"):
        check_call(Part, {}, "data.part")
    check_call(Part, {}, "data.part", partial=True)
    with pytest.raises(InputError, match="size='x'"):
        check_call(Part, {"size": "x"}, "data.part", partial=True)


def test_every_target_of_a_tree_is_checked() -> None:
    check_config({"model": {"video": HEAD, "text": [HEAD, HEAD]}, "trainer": TRAINER, "loss": None})
    wrong = {**HEAD, "out_dimm": 3}
    with pytest.raises(InputError, match=r"^model\.video\.out_dimm: ProjectionHead .* Did you mean 'out_dim'"):
        check_config({"model": {"video": wrong}})
    with pytest.raises(InputError, match=r"^parts\[1\]\.out_dimm"):
        check_config({"parts": [HEAD, wrong]})
    with pytest.raises(InputError, match=r"^callbacks\.a\.model\.video\.out_dim='x'"):
        check_config({"callbacks": {"a": {"model": {"video": {**HEAD, "out_dim": "x"}}}}})


def test_nodes_within_a_node_that_has_a_target() -> None:
    tree = {
        "_target_": "clep.data.MomentDataModule",
        "sources": {"a": {"_target_": "clep.data.NarrationSource", "narrations": "n", "texts": "t", "bank": "b"}},
        "window": {"_target_": "clep.data.Window", "align": "center"},
    }
    with pytest.raises(InputError, match=r"^data\.window\.align=center is unknown\. Did you mean 'centre'\?"):
        check_config({"data": tree})
    tree["window"]["align"] = "centre"
    check_config({"data": tree})
    tree["sources"]["a"]["offset_s"] = "two"
    with pytest.raises(InputError, match=r"^data\.sources\.a\.offset_s='two'"):
        check_config({"data": tree})


@pytest.mark.parametrize("key", ["max_epochs", "max_steps", "devices", "log_every_n_steps", "precision"])
def test_lightnings_trainer_is_checked_through_its_decorator(key: str) -> None:
    check_config({"trainer": {**TRAINER, "max_epochs": 3, "devices": 2, "precision": "32-true", "max_steps": -1}})
    with pytest.raises(InputError, match=rf"^trainer\.{key}"):
        check_config({"trainer": {**TRAINER, key: {"a": 1}}})
    with pytest.raises(InputError, match=r"^trainer\.max_epoch: Trainer has no option .* Did you mean 'max_epochs'"):
        check_config({"trainer": {**TRAINER, "max_epoch": 3}})


def test_a_partial_node_may_leave_arguments_out() -> None:
    optimizer = {"_target_": "clep.training.adamw", "_partial_": True, "lr": 1e-3, "betas": [0.9, 0.98]}
    check_config({"optim": {"optimizer": optimizer}})
    with pytest.raises(InputError, match=r"optim\.optimizer: adamw needs 'model'"):
        check_config({"optim": {"optimizer": {**optimizer, "_partial_": False}}})
    with pytest.raises(InputError, match=r"optim\.optimizer\.lr='fast'"):
        check_config({"optim": {"optimizer": {**optimizer, "lr": "fast"}}})


@pytest.mark.parametrize("target", ["clep.models.NoSuchThing", "no_such_package.Thing", "clep", "", None, 3])
def test_targets_that_cannot_be_found_are_named(target: Any) -> None:
    with pytest.raises(InputError, match=r"^model\._target_="):
        check_config({"model": {"_target_": target}})


def test_no_target_is_imported_before_all_names_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_strangers_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    config = {"first": HEAD, "second": [{"_target_": "a_strangers_module.Thing"}]}
    with pytest.raises(InputError, match=r"second\[0\]\._target_='a_strangers_module\.Thing' .*allow=\[a_strangers"):
        check.check_config(config, targets=REGISTERED_ONLY)
    with pytest.raises(SystemExit, match="imported"):
        check_config(config)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("batchsize", "Did you mean 'batch_size'?"),
        ("zzz", "Choose from: lr, batch_size."),
        ("LR", "Did you mean 'lr'?"),
    ],
)
def test_suggestions(word: str, expected: str) -> None:
    assert did_you_mean(word, ["lr", "batch_size"]) == expected


def test_thousands_of_choices_are_not_listed() -> None:
    """A bank may have millions of videos; a message that lists all of them would be megabytes long."""
    assert (
        did_you_mean("zzz", [str(number) for number in range(9645)]) == "Choose from: 0, 1, 2, 3, 4, … (9,645 in all)."
    )


def test_a_target_without_options_says_so() -> None:
    assert did_you_mean("a", []) == "It takes none."


class Plain:
    pass


class Module(torch.nn.Module):
    pass


@pytest.mark.parametrize("kind", [Plain, Module])
def test_a_class_without_a_constructor_takes_nothing(kind: type) -> None:
    config = {"_target_": f"{__name__}.{kind.__name__}"}
    check_config(config)
    with pytest.raises(InputError, match=rf"loss\.chunk: {kind.__name__} has no option 'chunk'\. It takes none"):
        check_config({"loss": {**config, "chunk": 3}})
