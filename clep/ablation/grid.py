"""The grid of an ablation: common settings, swept settings or named variants, and seeds."""

import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString, ValueType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from clep.command_line import split_words
from clep.config.check import check_call, did_you_mean
from clep.config.folder import config_folder
from clep.config.overrides import check_read_overrides, split_config_dir
from clep.config.saved import AS_CONFIGURED, SEED
from clep.config.targets import Targets, allowed, targets_in_folder
from clep.errors import InputError

_OWN_KEYS = ("ablation", "allow", "metrics", "out", "table", "processes")
_NAME = re.compile(r"[^A-Za-z0-9=,._-]+")
_LONGEST_NAME = 100
_SWEEPS = (ValueType.CHOICE_SWEEP, ValueType.SIMPLE_CHOICE_SWEEP, ValueType.RANGE_SWEEP)


@dataclass(frozen=True)
class Cell:
    """One training run: its row in the table, its seed, and the overrides of `train.py`."""

    row: str
    seed: str | None
    overrides: tuple[str, ...]

    @property
    def title(self) -> str:
        """The cell in messages."""
        return self.row if self.seed is None else f"{self.row}, seed {self.seed}"

    @property
    def name(self) -> str:
        """Name of the cell's folder."""
        full = self.row if self.seed is None else f"{self.row},{SEED}={self.seed}"
        name = _NAME.sub("_", full)[:_LONGEST_NAME].strip("._") or "cell"
        return name if name == full else f"{name}-{hashlib.sha256(full.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Grid:
    """An ablation: every variant × every combination of swept values × every seed.

    Attributes:
        fixed: overrides that all cells share.
        swept: setting → its values, as typed.
        variants: name → overrides; empty: one row for each combination of swept values.
        seeds: values of `seed`; empty: only the configuration's default.
        metrics: names or patterns (`zeroshot/*/top1`) of the metrics in the table; empty: all evaluators' metrics.
        out: folder of the cells.
        table: path of the table without suffix; `.md`, `.json` and `.png` are added.
        processes: cells that are trained at once.
        config_dir: a folder of the user's own config groups, as of train.py; None for none.
    """

    fixed: tuple[str, ...] = ()
    swept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seeds: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    out: Path = Path("runs/ablation")
    table: Path = Path("runs/ablation/table")
    processes: int = 1
    config_dir: str | None = None

    def cells(self) -> list[Cell]:
        """Return the cells, seed after seed, so that every row has a value as early as possible."""
        combinations = [
            tuple(f"{key}={value}" for key, value in zip(self.swept, values, strict=True))
            for values in itertools.product(*self.swept.values())
        ]
        named = self.variants or {"": ()}
        return [
            Cell(
                ", ".join(filter(None, (name, *chosen))) or AS_CONFIGURED,
                seed,
                (*self.fixed, *overrides, *chosen, *([] if seed is None else [f"{SEED}={seed}"])),
            )
            for seed in self.seeds or (None,)
            for name, overrides in named.items()
            for chosen in combinations
        ]


def ablation_file(
    overrides: list[str] | None = None,
    seeds: list[int] | None = None,
    metrics: list[str] | None = None,
    variants: dict[str, list[str]] | None = None,
) -> None:
    """Schema of a file of conf/ablation/; never called.

    Args:
        overrides: settings of all cells; one with several values (`operator=none,nl`) is swept.
        seeds: values of `seed`.
        metrics: names or patterns of the metrics in the table.
        variants: name → overrides of that row of the table.
    """


def read_grid(words: Sequence[str]) -> Grid:
    """Parse `key=value` words, and the file of `ablation=NAME`, into a grid.

    Words follow Hydra's grammar of overrides: `operator=none,nl`, `seed=0,1,2` or `seed=range(3)` are swept, all others
    are common to all cells. A word replaces the file's override of the same setting.

    A file that is given by its path may come from a stranger: it is read as data, and may name registered classes of
    clep, and those that `allow=[mine]` adds. What the words name is the user's own choice.

    Raises:
        InputError: a word is not an override, a sweep cannot be listed, the file is not an ablation or names a class
            that is not allowed, or one of its variants sets what a word sets or sweeps, so that its row would not be
            what its name says.
    """
    words, config_dir = split_config_dir(words)
    parsed = _parse(words)
    own = {
        override.get_key_element(): _single_value(override)
        for override in parsed
        if override.get_key_element() in _OWN_KEYS
    }
    given = [override for override in parsed if override.get_key_element() not in _OWN_KEYS]
    name = own.get("ablation")
    content: dict[str, Any] = _read_file(str(name), config_dir) if name is not None else {}
    keys = {_key(override) for override in given}
    before = [one for one in _parse(content.get("overrides") or []) if _key(one) not in keys]
    fixed, swept = list[str](), dict[str, tuple[str, ...]]()
    for override in [*before, *given]:
        if override.is_sweep_override():
            swept[override.get_key_element()] = _values(override)
        elif _key(override) == SEED:
            swept[SEED] = (str(override.input_line).split("=", 1)[1],)
        else:
            fixed.append(str(override.input_line))
    variants = {key: _variant(key, lines) for key, lines in (content.get("variants") or {}).items()}
    _check_variants([*(one for one in before if one.is_sweep_override()), *given], variants)
    typed = targets_in_folder(config_dir) if config_dir else frozenset[str]()
    _check_file(str(name), content, allowed(_names("allow", own.get("allow") or []), typed), config_dir)
    seeds = swept.pop(SEED, tuple(str(seed) for seed in content.get("seeds") or ()))
    title = Path(str(name)).stem if name is not None else "ablation"
    out = Path(str(own.get("out") or f"runs/{title}"))
    return Grid(
        tuple(fixed),
        swept,
        variants,
        seeds,
        tuple(_names("metrics", own.get("metrics") or content.get("metrics") or [])),
        out,
        Path(str(own.get("table") or out / "table")),
        _processes(own.get("processes", 1)),
        config_dir,
    )


def _parse(words: Iterable[str]) -> list[Override]:
    words = list(words)
    known = [path.stem for path in (config_folder() / "ablation").glob("*.yaml")]
    split_words(words, _OWN_KEYS, choices={"ablation": known})
    try:
        return OverridesParser.create().parse_overrides(words)
    except HydraException as error:
        raise InputError(f"cannot read the settings: {error}") from error


def _check_file(name: str, content: dict[str, Any], targets: Targets, config_dir: str | None) -> None:
    """Check the overrides that an ablation's file holds, as data of a stranger's.

    Raises:
        InputError: they name a class that is not allowed, or a file outside of the config folders.
    """
    folders = [config_folder(), *([Path(config_dir)] if config_dir else [])]
    variants = (content.get("variants") or {}).values()
    words = [*(content.get("overrides") or []), *(word for lines in variants for word in lines)]
    check_read_overrides(words, targets, name, folders)


def _values(override: Override) -> tuple[str, ...]:
    if override.value_type not in _SWEEPS:
        raise InputError(f"{override.input_line}: list the values of a sweep (a,b,c), or give a range(start,stop)")
    values = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if not values:
        raise InputError(f"{override.input_line} sweeps over no value")
    return values


def _variant(name: str, lines: Any) -> tuple[str, ...]:
    for override in _parse(lines):
        if override.is_sweep_override():
            raise InputError(f"variant {name!r}: {override.input_line} has several values; a variant is one row")
        if _key(override) == SEED:
            raise InputError(f"variant {name!r} sets the seed; seeds are given once, for all variants")
    return tuple(lines)


def _check_variants(overrides: Iterable[Override], variants: dict[str, tuple[str, ...]]) -> None:
    set_by = {_key(one): name for name, lines in variants.items() for one in _parse(lines)}
    for override in overrides:
        if (name := set_by.get(_key(override))) is not None:
            raise InputError(
                f"{override.input_line}: variant {name!r} sets {_key(override)} itself, and the rows are named after "
                f"what their variants set; copy the ablation's file, change its variants, and use ablation=COPY.yaml"
            )


def _key(override: Override) -> str:
    return str(override.get_key_element()).lstrip("+~")


def _single_value(override: Override) -> Any:
    if override.is_sweep_override():
        raise InputError(f"{override.input_line}: {override.get_key_element()} takes one value; write lists as [a,b]")
    value = override.value()
    return value.text if isinstance(value, QuotedString) else value


def _names(key: str, value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    texts = [one.text if isinstance(one, QuotedString) else one for one in values]
    if not all(isinstance(one, str) for one in texts):
        raise InputError(f"{key}={value} should be a list of names, [a,b]")
    return texts


def _processes(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"processes={value} should be a whole number, 1 or more")
    return value


def _read_file(name: str, config_dir: str | None) -> dict[str, Any]:
    folders = [config_folder() / "ablation", *([Path(config_dir) / "ablation"] if config_dir else [])]
    known = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.yaml")}
    path = Path(name) if name.endswith((".yaml", ".yml")) else known.get(name, folders[0] / f"{name}.yaml")
    if not path.is_file():
        raise InputError(f"there is no ablation {path}. {did_you_mean(name, sorted(known))}")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} should have the keys overrides, seeds, metrics and variants")
    named = {str(key): value for key, value in content.items()}
    check_call(ablation_file, named, f"{path}")
    if named.get("variants") is not None and not named["variants"]:
        raise InputError(f"{path}: variants is empty; leave it out, or give it rows")
    return named
