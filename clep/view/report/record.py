"""Read what a run left in its folder: metrics, history, details, settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.config.compose import compose_config, set_path
from clep.config.saved import saved_overrides, saved_settings
from clep.errors import InputError
from clep.evaluation.details import DETAILS, Classes, Detail, Hits, Pairs, QueryValues, Ranks, read_details
from clep.files import read_json
from clep.metrics.history import HISTORY, Chosen, read_history
from clep.metrics.names import NO_RESULTS

_NOT_COMPARED = ("hydra", "prepare", "paths.run", "report")


@dataclass(frozen=True)
class RunRecord:
    """What a run left in its folder.

    Attributes:
        folder: of the run.
        name: of the experiment, and the last part of the folder's path.
        metrics: of the final weights.
        before: from before training.
        seconds: durations.
        history: metrics of each validation, with `epoch` and `step`.
        chosen: which weights the run ended with.
        coverage: counts of data and evaluators.
        settings: of the run, nested; empty where they are unknown.
        overrides: what was typed.
        details: of the evaluators.
        facts: machine, versions, start and end.
    """

    folder: Path
    name: str
    metrics: dict[str, float]
    before: dict[str, float]
    seconds: dict[str, float]
    history: list[dict[str, Any]]
    chosen: Chosen | None
    coverage: dict[str, Any]
    settings: dict[str, Any]
    overrides: list[str]
    details: list[Detail]
    facts: dict[str, Any]

    @property
    def ranks(self) -> dict[str, Ranks]:
        """The ranks of queries by the first part of their metrics' names."""
        return {one.name: one for one in self.details if isinstance(one, Ranks)}

    @property
    def values(self) -> dict[str, QueryValues]:
        """The values of queries by the first part of their metrics' names."""
        return {one.name: one for one in self.details if isinstance(one, QueryValues)}

    @property
    def classes(self) -> dict[str, Classes]:
        """The accuracy of classes by the first part of their metrics' names."""
        return {one.name: one for one in self.details if isinstance(one, Classes)}

    @property
    def hits(self) -> list[Hits]:
        """The queries with their answers."""
        return [one for one in self.details if isinstance(one, Hits)]

    @property
    def pairs(self) -> list[Pairs]:
        """The galleries."""
        return [one for one in self.details if isinstance(one, Pairs)]


def read_run(folder: str | Path) -> RunRecord:
    """Read the folder of a run; nothing in it is executed.

    Raises:
        InputError: the run has no metrics, or a file is damaged.
    """
    folder = Path(folder)
    if not (folder / "metrics.json").is_file():
        stopped = (folder / "config.yaml").is_file() or (folder / ".hydra").is_dir()
        remedy = (
            "the run was stopped: continue it, its command with ckpt_path=last" if stopped else "give that of a run"
        )
        raise InputError(f"{folder} has no metrics.json: it is not the folder of a run that ended; {remedy}")
    measured = read_json(folder / "metrics.json")
    if not isinstance(measured, dict):
        raise InputError(f"{folder / 'metrics.json'} is not a JSON object of metrics")
    values = {str(key): float(value) for key, value in measured.items() if isinstance(value, int | float)}
    history, chosen = read_history(folder / HISTORY) if (folder / HISTORY).is_file() else ([], None)
    details, facts = read_details(folder / DETAILS) if (folder / DETAILS).is_file() else ([], {})
    coverage = read_json(folder / "coverage.json") if (folder / "coverage.json").is_file() else {}
    settings = saved_settings(folder)
    return RunRecord(
        folder,
        f"{settings.get('name', folder.parent.name)} {folder.name}",
        {key: value for key, value in values.items() if not key.startswith(NO_RESULTS) or key.startswith("ema/")},
        {key.removeprefix("before/"): value for key, value in values.items() if key.startswith("before/")},
        {key.removeprefix("seconds/"): value for key, value in values.items() if key.startswith("seconds/")},
        history,
        chosen,
        coverage if isinstance(coverage, dict) else {},
        settings,
        saved_overrides(folder) or [],
        details,
        facts,
    )


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key; lists stay values."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def compared_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by dotted key, without those that differ between any two runs."""
    return {
        key: value
        for key, value in flat(settings).items()
        if not any(key == one or key.startswith(f"{one}.") for one in _NOT_COMPARED)
    }


def differences_from_defaults(run: RunRecord) -> list[tuple[str, Any, Any]]:
    """Return (key, default, value) of the settings that differ from `conf/` without any experiment."""
    from omegaconf import OmegaConf

    cfg = compose_config("train", ["~experiment"])
    set_path(cfg, "paths.run", run.folder)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    defaults = compared_settings({str(key): value for key, value in plain.items()})
    own = compared_settings(run.settings)
    return [
        (key, defaults.get(key, "–"), own.get(key, "–"))
        for key in sorted(own.keys() | defaults.keys())
        if own.get(key, "–") != defaults.get(key, "–")
    ]
