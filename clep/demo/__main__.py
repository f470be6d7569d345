"""Command line of the synthetic data: `python -m clep.demo COMMAND key=value …`."""

import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from clep.command_line import run_command, split_words
from clep.config.check import check_call, did_you_mean
from clep.demo import (
    SyntheticAVA,
    SyntheticDataset,
    SyntheticEgo4D,
    SyntheticFeatures,
    SyntheticLongTerm,
    SyntheticObjectives,
    SyntheticVideos,
    shuffled_narrations,
    simulate_ego_charades,
    simulate_features,
    simulate_kinetics,
    simulate_narrations,
)
from clep.errors import InputError

DATASETS: dict[str, type[SyntheticDataset]] = {
    "feature_dataset": SyntheticFeatures,
    "video_dataset": SyntheticVideos,
    "long_term_dataset": SyntheticLongTerm,
    "objectives_dataset": SyntheticObjectives,
    "ava_dataset": SyntheticAVA,
    "full_size_dataset": SyntheticEgo4D,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "features": simulate_features,
    "kinetics": simulate_kinetics,
    "ego_charades": simulate_ego_charades,
    "narrations": simulate_narrations,
    "shuffled": shuffled_narrations,
}
_MAKE_OPTIONS = {"out": MISSING, "seed": 0, "progress": True}


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate data from the command line, see `run_command`."""
    return run_command(lambda words: Console().print(run(words[0], words[1:])), lambda _: usage(), arguments)


def run(command: str, options: list[str]) -> Any:
    """Run one of `DATASETS` or `FUNCTIONS` with `key=value` options and return its result.

    Raises:
        InputError: the command or an option is unknown, or a value has the wrong type.
    """
    if command not in DATASETS and command not in FUNCTIONS:
        raise InputError(f"there is no command {command!r}. {did_you_mean(command, [*DATASETS, *FUNCTIONS])}")
    known = inspect.signature(FUNCTIONS[command]).parameters if command in FUNCTIONS else _options(DATASETS[command])
    split_words(options, known)
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(options))
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"cannot read the options {' '.join(options)}: {error}") from error
    assert isinstance(values, dict)
    named = {str(key): value for key, value in values.items()}
    if command in FUNCTIONS:
        check_call(FUNCTIONS[command], named, "")
        return FUNCTIONS[command](**named)
    own = {key: named.pop(key) for key in list(named) if key in _MAKE_OPTIONS}
    if unknown := [key for key in named if key not in known]:
        raise InputError(f"{command} has no option {unknown[0]!r}. {did_you_mean(unknown[0], known)}")
    dataset = DATASETS[command].from_dict(named)
    check_call(dataset.make, own, "")
    return dataset.make(**own)


def usage() -> str:
    """Return the list of commands, each with its purpose and its options."""
    lines = ["Generate synthetic data in official formats.", "", "  python -m clep.demo COMMAND key=value …", ""]
    for name, dataset in DATASETS.items():
        lines += _described(name, dataset, _options(dataset))
    for name, function in FUNCTIONS.items():
        parameters = inspect.signature(function).parameters.items()
        lines += _described(
            name, function, {key: MISSING if p.default is p.empty else p.default for key, p in parameters}
        )
    return "\n".join(lines)


def _options(dataset: type[SyntheticDataset]) -> dict[str, Any]:
    settings = {item.name: "…" if item.default is MISSING else item.default for item in fields(dataset)}
    return {**_MAKE_OPTIONS, **settings}


def _described(name: str, target: Callable[..., Any], options: dict[str, Any]) -> list[str]:
    shown = ", ".join(key if value is MISSING else f"{key}={value}" for key, value in options.items())
    meaning = str(inspect.getdoc(target)).splitlines()[0]
    return [name, f"    {meaning}", textwrap.indent(textwrap.fill(shown, 114), "    "), ""]


if __name__ == "__main__":
    sys.exit(main())
