"""`history.json` of a run: its metrics at each validation, and which weights it ended with. No Lightning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clep.checksums import read_checked_json, write_checked_json
from clep.errors import InputError

HISTORY = "history.json"


class Chosen(NamedTuple):
    """Which weights a run ended with.

    Attributes:
        epoch: number of the epoch, from 1; None where no validation was at the step.
        step: optimizer steps before it.
        monitor: metric that chose it; None: the last weights.
        mode: "max" or "min".
        value: of the metric.
    """

    epoch: int | None
    step: int
    monitor: str | None = None
    mode: str = "max"
    value: float | None = None

    def __str__(self) -> str:
        where = f"step {self.step:,}" if self.epoch is None else f"epoch {self.epoch}, step {self.step:,}"
        if self.monitor is None or self.value is None:
            return f"the last weights ({where})"
        extreme = "highest" if self.mode == "max" else "lowest"
        return f"the weights with the {extreme} {self.monitor}, {self.value:.4g} ({where})"


def write_history(path: str | Path, rows: Sequence[Mapping[str, float | int]], chosen: Chosen | None = None) -> None:
    """Write the rows, and which weights were chosen; with a checksum.

    Args:
        path: of the file.
        rows: `epoch`, `step` and metrics of each validation.
        chosen: None while the run trains.
    """
    write_checked_json(path, {"rows": [dict(row) for row in rows], "chosen": chosen and chosen._asdict()})


def read_history(path: str | Path) -> tuple[list[dict[str, Any]], Chosen | None]:
    """Return the rows, and which weights were chosen, if that is known.

    Raises:
        InputError: the file is missing, damaged, or not a history.
    """
    content = read_checked_json(path)
    try:
        rows = [{str(key): value for key, value in row.items()} for row in content["rows"]]
        if not all(isinstance(row["step"], int) for row in rows):
            raise TypeError("a step is not a number")
        return rows, Chosen(**content["chosen"]) if content.get("chosen") else None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not the history of a run: {error!r}; delete it to see the run without it"
        ) from error
