"""A job is declared once, as a frozen dataclass: Hydra's defaults, `--help`, checks and commands derive from it."""

import functools
import inspect
import logging
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import Field, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from omegaconf import OmegaConf

from clep.compute.locks import file_lock
from clep.config.check import check_call, check_config
from clep.config.folder import config_folder
from clep.config.overrides import override
from clep.config.plugins import plugin_names
from clep.config.targets import ANYTHING, TARGET, find_target
from clep.errors import InputError
from clep.remote import exists, is_remote, shown

logger = logging.getLogger(__name__)

LONG_TEXTS = 200_000
LONG_BYTES = 50e9
EXTRACTION = "extraction"
CHOICES = ("encoder", "compute")
"""Groups of conf whose files an option of a job, or of its extraction, selects by name."""


def config_group(group: str, choice: str | None = None) -> dict[str, str | None]:
    """Return the metadata of an option that is a config of `conf/<group>`; the option's own default is None.

    Args:
        group: e.g. "extraction".
        choice: the file that the command line and Hydra start from; None starts from null. Python code that leaves the
            option out gets None either way.
    """
    return {"group": group, "choice": choice}


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """Base class of the preprocessing jobs: files of a dataset in, banks and tables out.

    A subclass names its job, `class Kinetics(Job, job="kinetics")`, and declares each option as a field, with its
    default and, in the section "Attributes" of the docstring, its meaning. A class without `job=` is a base class.
    The first line of the docstring is what the list of jobs shows.

    Defaults that are paths are interpolations, such as `"${paths.out}/kinetics"` or `"${.split}.csv"` (an option of the
    same job). Hydra resolves them; an object built in Python takes them from `conf/paths/default.yaml`, as the command
    line does without `paths.…`.

    Examples:
        >>> from clep.preprocess.kinetics import Kinetics
        >>> job = Kinetics(csv="val.csv", features="features", output_folder="out")
        >>> job.command()
        'python -m clep.preprocess kinetics csv=val.csv features=features output_folder=out'
        >>> [path.name for path in job.missing_outputs()]
        ['clips.h5', 'features.h5', 'prompts.json', 'prompts.all-mpnet-base-v2.h5']
    """

    name: ClassVar[str] = ""

    def __init_subclass__(cls, *, job: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.name = job

    def __post_init__(self) -> None:
        for option in fields(self):
            if _is_interpolation(option.default) and getattr(self, option.name) == option.default:
                object.__setattr__(self, option.name, self._default(option, _default_paths()))

    @abstractmethod
    def inputs(self) -> list[Path]:
        """Return the files and folders that the job reads."""

    @abstractmethod
    def outputs(self) -> list[Path]:
        """Return the files that the job writes; all of them exist once it is done."""

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Do what is not done yet and return the coverage: counts, and lists of what is missing or was left out.

        Raises:
            InputError: an input is missing or cannot be used, or the disk is full.
        """

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why the job would take long, or None; called once its inputs exist.

        Args:
            long_texts: more texts than this, encoded without a GPU, take long.
            long_bytes: more bytes of features than this take long to copy.
        """
        return None

    @classmethod
    def options(cls) -> list[Field[Any]]:
        """Return the options in the order of help and commands: the class's own before those of its base classes."""
        declared = {option.name: option for option in fields(cls)}
        names = dict.fromkeys(name for home in cls.__mro__ for name in inspect.get_annotations(home))
        return [declared[name] for name in names if name in declared]

    def missing_outputs(self) -> list[Path]:
        """Return the outputs that do not exist."""
        return [path for path in self.outputs() if not path.exists()]

    def lock(self) -> AbstractContextManager[Any]:
        """Return a lock on the first output; with `extraction.shard`, on this machine's part of it."""
        written = self.outputs()
        if not written or is_remote(written[0]):
            return nullcontext()
        extraction = getattr(self, EXTRACTION, None)
        part = extraction.get("shard") if isinstance(extraction, Mapping) else getattr(extraction, "shard", None)
        if part is None:
            return file_lock(written[0])
        return file_lock(written[0].with_name(f"{written[0].stem}.part-{str(part).replace('/', '-of-')}"))

    def command(self) -> str:
        """Return the command line that runs this job, quoted for a shell.

        Options at their defaults are left out; where files lie as in another `paths.data`, that is given instead.
        """
        own = type(self)
        name = self.name if own.__module__.startswith("clep.") else f"{own.__module__}.{own.__qualname__}"
        variants = [self._words(_default_paths())]
        for root in self._data_roots():
            variants.append([_word("paths.data", root), *self._words({**_default_paths(), "data": root})])
        return " ".join(["python -m clep.preprocess", name, *min(variants, key=len)])

    def _words(self, paths: Mapping[str, Any]) -> list[str]:
        """Return the options that differ from the defaults below these paths."""
        words: list[str] = []
        for option in self.options():
            value = getattr(self, option.name)
            if option.name == EXTRACTION and value is not None:
                given = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
                words += _extraction_words(given, option.metadata["choice"])
            elif "group" in option.metadata and isinstance(value, Mapping):
                words += _choice_words(option.name, value)
            elif value != self._default(option, paths):
                words.append(_word(option.name, value))
        return words

    def _data_roots(self) -> list[str]:
        """Return the folders below which an option lies where its default lies below `paths.data`."""
        usual = str(_default_paths()["data"])
        roots: dict[str, None] = {}
        for option in self.options():
            value, default = getattr(self, option.name), self._default(option, _default_paths())
            if isinstance(value, str) and isinstance(default, str) and default.startswith(f"{usual}/"):
                below = default.removeprefix(usual)
                if value.endswith(below) and value != default and value != below:
                    roots[value.removesuffix(below)] = None
        return list(roots)

    def _default(self, option: Field[Any], paths: Mapping[str, Any]) -> Any:
        """Return an option's default, its interpolations resolved with paths and this job's options."""
        if not _is_interpolation(option.default):
            return option.default
        values: dict[str, Any] = {}
        for other in fields(self):
            value = getattr(self, other.name)
            if isinstance(value, str) and value != other.default:
                value = value.replace("${", "\\${")
            if isinstance(value, str | int | float | bool):
                values[other.name] = value
        values[option.name] = option.default
        return OmegaConf.create({"paths": dict(paths), "job": values}).job[option.name]


def build_job(config: "Mapping[str, Any] | Job", key: str = "") -> Job:
    """Build a job from its composed config, all options checked against the declaration.

    Args:
        config: `{"_target_": "clep.preprocess.kinetics.Kinetics", **options}`, or a job.
        key: under which the options stand, for messages.

    Raises:
        InputError: the target is not a job, or an option is unknown, missing or of another type.
    """
    if isinstance(config, Job):
        return config
    target = job_class(config.get(TARGET), key)
    options = {str(name): value for name, value in config.items() if name != TARGET}
    check_call(target, options, key)
    check_config(options, key, ANYTHING)
    return target(**options)


def job_class(target: Any, key: str = "") -> type[Job]:
    """Import the class of a job from its dotted name.

    Raises:
        InputError: it cannot be imported, or is not the class of a job.
    """
    found: Any = find_target(target, key, ANYTHING)
    if not (inspect.isclass(found) and issubclass(found, Job) and found.name):
        raise InputError(
            f"{f'{key}.' if key else ''}{TARGET}={target!r} is not a job; `python -m clep.preprocess --help` lists them"
        )
    return found


def ensure(
    jobs: Sequence[Mapping[str, Any] | Job], long_texts: int = LONG_TEXTS, long_bytes: float | int = LONG_BYTES
) -> list[dict[str, Any]]:
    """Bring the outputs of jobs up to date, in order.

    Options, inputs and costs of all jobs are checked before the first job starts; an input that an earlier job writes
    counts as present. Outputs that are complete are used although their inputs are missing (only results were copied to
    this machine), or although their folder is read-only. Several processes, such as the ranks of a training, may call
    this at once: one works, the others wait for it.

    Args:
        jobs: jobs, or their composed configs.
        long_texts: a job that would encode more texts than this without a GPU is refused.
        long_bytes: a job that would copy more bytes of features than this is refused.

    Returns:
        The coverage of each job that ran or was found up to date.

    Raises:
        InputError: an option is wrong, inputs are missing while outputs are too (the message names them all), or a job
            would take long; the message has the commands.
    """
    able = _with_inputs([build_job(job) for job in jobs])
    # Jobs that read what an earlier one writes can only be checked once that has run.
    early = [job for job in able if all(map(exists, job.inputs()))]
    _refuse_long(early, long_texts, long_bytes)
    done = []
    for job in able:
        if job not in early:
            _refuse_long([job], long_texts, long_bytes)
        with job.lock():
            done.append(job.run())
    return done


def _refuse_long(jobs: Sequence[Job], long_texts: int, long_bytes: float | int) -> None:
    """Refuse jobs that would take long, all of them in one message."""
    long: dict[str, str] = {}
    for job in jobs:
        with job.lock():
            warning = job.cost_warning(long_texts, long_bytes)
        if warning is not None:
            long[job.command()] = f"{job.name}: {warning}"
    if long:
        raise InputError(f"{'; '.join(long.values())}, which takes long. Run once, then start again: {'; '.join(long)}")


def _with_inputs(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that can run; those whose outputs are complete and cannot be made again are left out."""
    able: list[Job] = []
    missing: dict[str, list[Path]] = {}
    commands: list[str] = []
    coming: set[Path] = set()
    for job in jobs:
        outputs, lacking = job.outputs(), job.missing_outputs()
        gone = [path for path in job.inputs() if not _is_written(path.absolute(), coming) and not exists(path)]
        coming.update(path.absolute() for path in outputs)
        if gone and lacking:
            missing.setdefault(job.name, []).extend(gone)
            commands.append(job.command())
        elif gone:
            logger.info("%s does not exist; %s is used unchanged", gone[0], outputs[0])
        elif outputs and not lacking and not os.access(outputs[0].parent, os.W_OK):
            logger.info("%s is read-only; its files are used unchanged", outputs[0].parent)
        else:
            able.append(job)
    if missing:
        named = "; ".join(f"{name} needs {', '.join(map(shown, paths))}" for name, paths in missing.items())
        raise InputError(
            f"inputs do not exist: {named}. Put the files there, or set their paths (paths.data=DIR moves all of "
            f"them). The commands: {'; '.join(commands)}"
        )
    return able


def _is_written(path: Path, outputs: set[Path]) -> bool:
    """Tell whether an earlier job writes a path, or files into it."""
    return path in outputs or any(path in output.parents for output in outputs)


def given_paths(*paths: str | Path | None) -> list[Path]:
    """Return the paths that are not None."""
    return [Path(path) for path in paths if path is not None]


def choices(group: str, config_dir: str | None = None) -> list[str]:
    """Return the names in `conf/<group>`, in that group of a config folder of the user's, and of plug-ins, sorted."""
    homes = [config_folder(), *given_paths(config_dir)]
    return sorted({path.stem for home in homes for path in (home / group).glob("*.yaml")} | set(plugin_names(group)))


def nearest_choice(group: str, value: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the file of `conf/<group>` that a config differs least from, and what differs.

    The name is "" where no file has the config's `_target_`.
    """
    best, differs = "", dict(value)
    for name in sorted(path.stem for path in (config_folder() / group).glob("*.yaml")):
        given = _config_file(group, name)
        other = {key: item for key, item in value.items() if key not in given or given[key] != item}
        if TARGET not in other and (not best or len(other) < len(differs)):
            best, differs = name, other
    return best, differs


@functools.cache
def _config_file(group: str, name: str) -> Mapping[str, Any]:
    """Return a file of clep's own `conf`, parsed once: a command is compared with every encoder."""
    content = OmegaConf.to_container(OmegaConf.load(config_folder() / group / f"{name}.yaml"))
    assert isinstance(content, dict)
    return MappingProxyType({str(key): value for key, value in content.items()})


def _default_paths() -> Mapping[str, Any]:
    return _config_file("paths", "default")


def _is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def extraction_options(job: type[Job]) -> list[str]:
    """Return the keys of a job's `extraction`, as the file of `conf/extraction` that it starts from lists them."""
    choice = next((option.metadata["choice"] for option in job.options() if option.name == EXTRACTION), None)
    return [*CHOICES, *(key for key in _config_file(EXTRACTION, choice) if key != "defaults")] if choice else []


def path_options() -> list[str]:
    """Return the keys of `conf/paths`."""
    return list(_default_paths())


def _extraction_words(options: Mapping[str, Any], choice: str) -> Iterator[str]:
    defaults = _config_file(EXTRACTION, choice)
    selected = [item for item in defaults["defaults"] if isinstance(item, dict)]
    chosen = {f"{key.rpartition('@')[2]}={name}" for item in selected for key, name in item.items()}
    for key, value in options.items():
        if key in CHOICES and isinstance(value, Mapping):
            yield from (word for word in _choice_words(key, value) if word not in chosen)
        elif key not in defaults or value != defaults[key]:
            yield _word(key, value)


def _choice_words(group: str, value: Mapping[str, Any]) -> Iterator[str]:
    name, differs = nearest_choice(group, value)
    if not name:  # a class of the user's own: it takes the place of the default whole
        yield _word(group, value)
        return
    yield f"{group}={name}"
    for key, item in differs.items():
        yield _word(f"{group}.{key}", item)


def _word(key: str, value: Any) -> str:
    """Return `key=value` so that the shell and then Hydra read the value back unchanged."""
    return shlex.quote(override(key, value))
