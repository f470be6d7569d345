"""Read the settings that a run left in its folder, as data: nothing in them is imported or executed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from clep.config.overrides import check_references, read_overrides
from clep.errors import InputError
from clep.files import read_yaml

SETTINGS = "config.yaml"
"""The settings of a run, resolved."""
OVERRIDES = ".hydra/overrides.yaml"
"""What was typed for it."""
SEED = "seed"
"""Setting that varies within a row of a sweep."""
AS_CONFIGURED = "as configured"
"""Name of the row of a sweep in which no setting varies."""
COMPOSED = ".hydra/config.yaml"
"""The config that Hydra composed, with its references."""


def run_folder(ckpt: Path) -> Path:
    """Return the folder of the run that `ckpt` belongs to: the nearest above it with a `.hydra`, else its own."""
    start = ckpt if ckpt.is_dir() else ckpt.parent
    for folder in (start, *list(start.resolve().parents)[:2]):
        if (folder / ".hydra").is_dir():
            return folder
    return start


def saved_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a run, nested; empty where it left none.

    Raises:
        InputError: the file cannot be read, or is not YAML.
    """
    path = folder / SETTINGS
    found = read_yaml(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def saved_overrides(folder: Path) -> list[str] | None:
    """Return what was typed for a run; None where it left no overrides.

    Raises:
        InputError: the file cannot be read, or is not a list of texts.
    """
    path = folder / OVERRIDES
    return read_overrides(path) if path.is_file() else None


def saved_config(folder: Path) -> DictConfig:
    """Return the config of a run as Hydra composed it, with its references.

    Raises:
        InputError: the file cannot be read, is not the config of a run, or refers to what a run may not read.
    """
    path = folder / COMPOSED
    try:
        cfg = OmegaConf.load(path)
        plain = OmegaConf.to_container(cfg, resolve=False)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(cfg, DictConfig) or not isinstance(plain, dict) or not isinstance(plain.get("paths"), dict):
        raise InputError(f"{path} is not the composed config of a run")
    plain["paths"].pop("run", None)
    check_references(plain, str(path))
    return cfg


def words_that_differ(typed: Mapping[Path, Sequence[str]]) -> dict[Path, list[str]]:
    """Return what was typed for each run of a sweep and not for all of them; of a single run nothing."""
    common = set.intersection(*(set(words) for words in typed.values())) if typed else set()
    return {run: [word for word in words if word not in common] for run, words in typed.items()}


def without_seed(words: Sequence[str]) -> list[str]:
    """Return the overrides that set a row of a sweep apart: all but the seed, which varies within a row."""
    return [word for word in words if not word.startswith(f"{SEED}=")]
