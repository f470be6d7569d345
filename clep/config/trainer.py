"""Values of Lightning's Trainer that it refuses only when it is built, after minutes of preprocessing."""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from clep.errors import InputError

# Arguments that a run fills in itself, and what chooses their values.
FILLED_IN = {
    "logger": "loggers are chosen by logger=NAME, logger=none for none",
    "callbacks": "callbacks are chosen by callbacks=NAME, or set one by one as callbacks.NAME",
    "enable_progress_bar": "the progress bar is a callback: callbacks.progress=null removes it",
    "enable_checkpointing": "checkpoints are callbacks: callbacks=default, callbacks=last, or callbacks.checkpoint",
}
_DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")
_UNITS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def trainer_names(argument: str) -> tuple[str, ...]:
    """Return the texts that an argument of the Trainer takes; () for an argument that takes other values."""
    from pytorch_lightning.accelerators import AcceleratorRegistry
    from pytorch_lightning.strategies import StrategyRegistry

    known = {
        "strategy": ("auto", *StrategyRegistry.available_strategies()),
        "accelerator": ("auto", "gpu", *AcceleratorRegistry.available_accelerators()),
        "profiler": ("simple", "advanced", "pytorch", "xla"),
        "gradient_clip_algorithm": ("norm", "value"),
    }
    return known.get(argument, ())


def check_trainer(values: Mapping[str, Any], where: str, suggest: Callable[[str, Iterable[str]], str]) -> None:
    """Check the arguments of a Trainer that its type hints leave open.

    Args:
        values: the arguments.
        where: path of the Trainer in the settings, for messages.
        suggest: returns a sentence with the nearest of several choices.

    Raises:
        InputError: a name is unknown, a time or a number of devices cannot be read, or a run fills the argument in.
    """
    for argument, remedy in FILLED_IN.items():
        if argument in values and values[argument] is not True:
            raise InputError(f"{where}.{argument}: a run sets it; {remedy}")
    for argument, value in values.items():
        names = trainer_names(argument)
        if names and isinstance(value, bool):
            raise InputError(f"{where}.{argument}={str(value).lower()} is unknown. Choose from: {', '.join(names)}.")
        if names and isinstance(value, str) and value.lower() not in names:
            raise InputError(f"{where}.{argument}={value} is unknown. {suggest(value, names)}")
    _check_devices(values.get("devices", 1), where)
    duration = values.get("max_time")
    if isinstance(duration, str | int | float) and not _DURATION.fullmatch(str(duration).strip()):
        raise InputError(
            f"{where}.max_time={duration} is not a time: write days:hours:minutes:seconds, {_time(duration)}"
        )


def _check_devices(devices: Any, where: str) -> None:
    parts = devices if isinstance(devices, list) else str(devices).split(",")
    several = isinstance(devices, list) or len(parts) > 1
    numbers = [int(part) for part in parts if re.fullmatch(r"-?\d+", str(part).strip())]
    read = bool(parts) and len(numbers) == len(parts) and min(numbers) >= (0 if several else -1)
    if devices == "auto" or (read and (several or numbers != [0])):
        return
    raise InputError(
        f"{where}.devices={devices} is not a number of devices: give 1 or more, auto or -1 for all, "
        f"'{where}.devices=[0]' for the first GPU; the CPU alone is {where}.accelerator=cpu {where}.devices=1"
    )


def _time(duration: str | int | float) -> str:
    """Return a time such as 2h or 3600 (seconds) as the Trainer reads it; one hour where it cannot be read."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(duration).strip().lower())
    unit = next((one for one in sorted(_UNITS, reverse=True) if found and found.group(2).startswith(one)), "")
    seconds = float(found.group(1)) * _UNITS[unit] if found else 3600.0
    time = datetime.timedelta(seconds=int(seconds))
    hours, rest = divmod(time.seconds, 3600)
    return f"trainer.max_time={time.days:02d}:{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
