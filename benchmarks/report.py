"""One form for the settings and results of every benchmark: `key=value` in, JSON and a table out."""

import logging
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from benchmarks.machine import load, machine
from clep.files import write_json

RESULTS = Path(__file__).parent / "results"
DATA = str(Path(tempfile.gettempdir()) / "clep-benchmarks")

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], words: Sequence[str] | None = None) -> Settings:
    """Read `key=value` words as fields of the dataclass `kind`; exits with what is wrong with them."""
    try:
        given = OmegaConf.from_dotlist(list(sys.argv[1:] if words is None else words))
        read = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), given))
    except OmegaConfBaseException as error:
        sys.exit(f"error: {str(error).splitlines()[0]}. Settings: {', '.join(asdict(kind()))}")  # type: ignore[call-overload]
    assert isinstance(read, kind)
    return read


def quiet() -> None:
    """Show each measurement as it is made, and silence what Lightning says about every run."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torch\.utils\.data).*")


class Report:
    """Collects the results of one benchmark; `write` saves them as `<folder>/<name>.json` and prints them.

    Targets are kept beside the figures and are never enforced: a miss is a figure like any other.
    """

    def __init__(self, name: str, settings: Any, folder: str) -> None:
        self.name, self.folder = name, Path(folder)
        self._started = perf_counter()
        self._content: dict[str, Any] = {
            "benchmark": name,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "load_before": load(),
            "settings": {key: value for key, value in asdict(settings).items() if key not in ("data", "results")},
            "targets": {},
        }

    def add(self, key: str, value: Any) -> None:
        """Keep a figure, or a group of them."""
        self._content[key] = value

    def target(
        self, what: str, value: float, at_least: float | None = None, at_most: float | None = None, note: str = ""
    ) -> None:
        """Keep a figure beside what it should reach, or stay below."""
        reached = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        bound = {"at_least": at_least} if at_most is None else {"at_most": at_most}
        self._content["targets"][what] = {"value": value, **bound, "reached": reached, "note": note}

    def save(self) -> None:
        """Save what was measured so far, so that a time limit loses nothing."""
        self._content["seconds"] = round(perf_counter() - self._started, 1)
        self._content["load_after"] = load()
        write_json(self.folder / f"{self.name}.json", self._content)

    def write(self) -> dict[str, Any]:
        """Save, print the targets, and return everything."""
        self.save()
        console = Console()
        if self._content["targets"]:
            console.print(_targets_table(self.name, self._content["targets"]))
        console.print(
            f"{self.folder / self.name}.json, {self._content['seconds']} s, load {self._content['load_before']} "
            f"before and {self._content['load_after']} after",
            highlight=False,
            soft_wrap=True,
        )
        return self._content


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; the first column is text, the others are numbers or text."""
    made = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place == 0 else "right")
    for row in rows:
        made.add_row(*(shown(value) for value in row))
    Console().print(made)


def shown(value: object) -> str:
    """Format a number with three to four digits; return other values unchanged."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _targets_table(name: str, targets: dict[str, dict[str, Any]]) -> Table:
    made = Table(title=f"{name}: targets", title_justify="left")
    for column in ("what", "measured", "target", ""):
        made.add_column(column, justify="right" if column in ("measured", "target") else "left")
    for what, target in targets.items():
        bound = f"≥ {target['at_least']}" if "at_least" in target else f"≤ {target['at_most']}"
        made.add_row(what, shown(target["value"]), bound, "reached" if target["reached"] else "missed")
    return made
