"""Command line of the simulation: `python -m clep.demo WHAT key=value …`."""

import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from clep.config.check import check_call, did_you_mean
from clep.demo import (
    AvaWorldSettings,
    LongTermWorldSettings,
    ObjectivesWorldSettings,
    VideoWorldSettings,
    WorldSettings,
    make_ava_world,
    make_long_term_world,
    make_objectives_world,
    make_video_world,
    make_world,
    shuffled_narrations,
    simulate_ego_charades,
    simulate_features,
    simulate_kinetics,
    simulate_narrations,
)
from clep.errors import InputError

COMMANDS: dict[str, Callable[..., Any]] = {
    "world": make_world,
    "video_world": make_video_world,
    "long_term_world": make_long_term_world,
    "ava_world": make_ava_world,
    "objectives_world": make_objectives_world,
    "features": simulate_features,
    "kinetics": simulate_kinetics,
    "ego_charades": simulate_ego_charades,
    "narrations": simulate_narrations,
    "shuffled": shuffled_narrations,
}
_SETTINGS = {
    "world": WorldSettings,
    "video_world": VideoWorldSettings,
    "long_term_world": LongTermWorldSettings,
    "ava_world": AvaWorldSettings,
    "objectives_world": ObjectivesWorldSettings,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate what the words ask for; return 0, 1 for input that cannot be used, or 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    console, errors = Console(), Console(stderr=True, soft_wrap=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not words or {"-h", "--help", "help"} & set(words):
        console.print(usage(), markup=False, highlight=False)
        return 0
    try:
        console.print(run(words[0], words[1:]))
    except InputError as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        errors.print("interrupted; the same command again continues", markup=False)
        return 130
    return 0


def run(what: str, options: list[str]) -> Any:
    """Call one of `COMMANDS` with `key=value` options and return what it returns.

    Raises:
        InputError: the command or an option is unknown, or a value has the wrong type.
    """
    if what not in COMMANDS:
        raise InputError(f"there is nothing called {what!r} to simulate. {did_you_mean(what, COMMANDS)}")
    wrong = [option for option in options if "=" not in option]
    if wrong:
        raise InputError(f"{wrong[0]!r} is not key=value")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(options))
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"cannot read the options {' '.join(options)}: {error}") from error
    assert isinstance(values, dict)
    named = {str(key): value for key, value in values.items()}
    if what in _SETTINGS and isinstance(named.get("settings"), dict):
        check_call(_SETTINGS[what], named["settings"], "settings")
        named["settings"] = _SETTINGS[what](**named["settings"])
    check_call(COMMANDS[what], named, "")
    return COMMANDS[what](**named)


def usage() -> str:
    """List the commands with what each is for and its options."""
    lines = ["Simulate inputs in the official formats.", "", "  python -m clep.demo WHAT key=value …", ""]
    for name, function in COMMANDS.items():
        options = ", ".join(
            key if p.default is p.empty else f"{key}={p.default}"
            for key, p in inspect.signature(function).parameters.items()
        )
        lines += [f"{name}", f"    {inspect.getdoc(function).splitlines()[0]}", f"    {options}", ""]  # type: ignore[union-attr]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
