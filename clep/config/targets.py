"""Which classes a config may name by `_target_`: registered parts of clep, torch.nn modules, and what the user allows.

A config that was read from a run, a checkpoint, a model file or an ablation file may come from a stranger. It is data:
the classes that it may name are listed here. Every other name is refused before anything is imported.
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.config.plugins import plugin_of
from clep.errors import InputError

TARGET = "_target_"

_REGISTERED: dict[str, tuple[str, ...]] = {
    "clep.evaluation": (
        "AvaRegions",
        "EGTEAZeroShot",
        "EgoCharadesZeroShot",
        "EgoMCQ",
        "EpicMIR",
        "EpicZeroShot",
        "KineticsZeroShot",
        "LinearProbe",
        "MultipleChoice",
        "NarrationRetrieval",
        "NearestNeighbours",
        "TableRetrieval",
        "VideoAccuracy",
        "ZeroShotClassification",
    ),
    # Settings of synthetic datasets generate nothing when they are built.
    "clep.demo": (
        "EncoderSettings",
        "ProbeReference",
        "SyntheticAVA",
        "SyntheticEgo4D",
        "SyntheticFeatures",
        "SyntheticLongTerm",
        "SyntheticObjectives",
        "SyntheticVideos",
    ),
    "clep.data": (
        "Augmentation",
        "HardNegatives",
        "KeyFrameClips",
        "LabelledVideoDataModule",
        "LabelledVideoSource",
        "LongTerm",
        "MomentDataModule",
        "NarrationSource",
        "RegionDataModule",
        "RegionSource",
        "SceneAware",
        "TableDataModule",
        "TextTokens",
        "UniqueTexts",
        "Window",
    ),
    "clep.text": ("Taxonomy",),
    "clep.losses": (
        "AdaptiveMaxMarginLoss",
        "BCELoss",
        "ClipLoss",
        "DiagonalPositives",
        "EgoNCELoss",
        "MaxMarginLoss",
        "MultiPositiveNCELoss",
        "RelevancyPositives",
        "SigmoidLoss",
        "SymmetricMultiSimilarityLoss",
        "TextIdPositives",
        "TextSimilarityPositives",
        "VerbNounPositives",
    ),
    "clep.models": (
        "ActionClassifier",
        "DualEncoder",
        "FBOAvg",
        "FBOMax",
        "FBONonLocal",
        "FBONone",
        "GatedAttention",
        "JointSpace",
        "LongTermTower",
        "PixelTower",
        "ProjectionHead",
        "RegionEncoder",
        "SentenceTower",
        "TemporalAttention",
        "TemporalTower",
        "TrainableSentenceEncoder",
        "TrainedEncoder",
        "VideoClassifier",
    ),
    "clep.models.published": ("PublishedEncoder",),
    "clep.video.encoders": (
        "EfficientNetLite0",
        "ImageText",
        "Pixels",
        "TimeSformer",
        "VJEPA2",
        "VideoMAE",
        "VideoMAEv2",
    ),
}
REGISTERED = frozenset(f"{module}.{name}" for module, names in _REGISTERED.items() for name in names)
_TORCH_MODULE = re.compile(r"torch\.nn\.[A-Z]\w*")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_TARGET_LINE = re.compile(r"""_target_["']?\s*:\s*["']?([\w.]+)""")


@dataclass(frozen=True)
class Targets:
    """The `_target_` names that may be imported and built.

    Attributes:
        anything: the user typed the config, so any importable class or function may be built.
        allow: modules or classes that the user allows beside the registered ones: `mine` allows every class below it.
        typed: names that the user typed; these may be functions too.

    Raises:
        InputError: an entry of `allow` is not a dotted name.
    """

    anything: bool = False
    allow: tuple[str, ...] = ()
    typed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for entry in self.allow:
            if not _DOTTED.fullmatch(entry.removesuffix(".")):
                raise InputError(f"allow={entry!r} is not the name of a module or class; write allow=[mine]")

    def check(self, name: Any, key: str) -> str:
        """Return `name` if it may be imported; a check of text, which imports nothing.

        Args:
            name: the value of a `_target_`.
            key: the config key of the node it stands in, for messages.

        Raises:
            InputError: it may not, or is not a dotted name; the message gives the option that allows it.
        """
        where = f"{key}.{TARGET}" if key else TARGET
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}={name!r} is not allowed: expected the dotted name of a class")
        if self.anything or name in self.typed or name in REGISTERED or _TORCH_MODULE.fullmatch(name):
            return name
        public = _DOTTED.fullmatch(name) and not any(part.startswith("_") for part in name.split("."))
        if public and any(_is_below(name, entry) for entry in self.allow):
            return name
        raise InputError(
            f"{where}={name!r} is not allowed: what is read from a file builds registered classes of clep and modules "
            f"of torch.nn only. {_remedy(name)}"
        )

    def homes(self, name: str) -> tuple[str, ...]:
        """Return the modules (or classes) of which a class must be defined in one, for a name that passed `check`."""
        if name in REGISTERED:
            return ("clep",)
        return ("torch.nn",) if _TORCH_MODULE.fullmatch(name) else self.allow


def is_dotted(name: Any) -> bool:
    """Return whether a value is a dotted name, such as that of a class."""
    return isinstance(name, str) and _DOTTED.fullmatch(name) is not None


REGISTERED_ONLY = Targets()
ANYTHING = Targets(anything=True)


def find_parts(config: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the key and the node of each part, a dict with `_target_`, of a plain config."""
    if isinstance(config, Mapping):
        if TARGET in config:
            yield key, config
        for name, item in config.items():
            yield from find_parts(item, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list | tuple):
        for index, item in enumerate(config):
            yield from find_parts(item, f"{key}[{index}]")


def find_targets(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key and the `_target_` of each part of a plain config."""
    for where, part in find_parts(config, key):
        yield where, part[TARGET]


def check_targets(config: Any, targets: Targets, key: str = "") -> None:
    """Check every `_target_` of a plain config as text.

    Raises:
        InputError: one is not among `targets`; the message names its key.
    """
    for where, name in find_targets(config, key):
        targets.check(name, where)


def targets_in_folder(folder: str | Path) -> frozenset[str]:
    """Return the `_target_` names that the YAML files of a config folder mention."""
    found: set[str] = set()
    for path in sorted(Path(folder).rglob("*.yaml")):
        found.update(_TARGET_LINE.findall(path.read_text(encoding="utf-8", errors="replace")))
    return frozenset(found)


def allowed(allow: str | Sequence[str] = (), typed: Iterable[str] = ()) -> Targets:
    """Return the registered targets and those that the user allows (a name, or several) or typed.

    Raises:
        InputError: an entry of `allow` is not a dotted name.
    """
    entries = [allow] if isinstance(allow, str) else list(allow)
    return Targets(allow=tuple(entries), typed=frozenset(typed))


def find_target(name: Any, key: str, targets: Targets) -> Callable[..., Any]:
    """Import what a `_target_` names, after its name was found among `targets`.

    Raises:
        InputError: it is not among them, cannot be imported, or is no class (or, where the user typed it, no function).
    """
    name = targets.check(name, key)
    plugin = plugin_of(name)
    if plugin is None:
        return _find(name, key, targets)
    try:
        return _find(name, key, targets)
    except InputError as error:
        raise InputError(f"{plugin}: {error}") from error
    except Exception as error:  # whatever the code of a package raises when it is imported
        raise InputError(f"{plugin} cannot be imported: {type(error).__name__}: {error}") from error


def _find(name: str, key: str, targets: Targets) -> Callable[..., Any]:
    where = f"{key}.{TARGET}" if key else TARGET
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or len(parts) < 2:
        raise InputError(f"{where}={name!r} cannot be imported: expected module.Class")
    found, rest = _import_longest(parts, where)
    for part in rest:
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [item for item in dir(found) if not item.startswith("_")], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{where}={name!r} cannot be imported: {found.__name__} has no {part!r}{hint}")
        found = getattr(found, part)
    if targets.anything or name in targets.typed:
        if not callable(found):
            raise InputError(f"{where}={name!r} is neither a class nor a function")
    elif not inspect.isclass(found) or not any(
        _is_below(f"{found.__module__}.{found.__qualname__}", home) for home in targets.homes(name)
    ):
        raise InputError(f"{where}={name!r} is not allowed: no class that is defined there")
    return found


def _import_longest(parts: list[str], where: str) -> tuple[Any, list[str]]:
    """Import as many leading parts as are modules; return the last module and the parts left."""
    found = None
    for count in range(1, len(parts)):
        module = ".".join(parts[:count])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise InputError(f"{where}: {module} needs {error.name!r}, which is not installed") from error
            if found is None:
                raise InputError(
                    f"{where}={'.'.join(parts)!r} cannot be imported: there is no module {module!r}"
                ) from error
            return found, parts[count - 1 :]
    return found, parts[-1:]


def _is_below(name: str, entry: str) -> bool:
    stem = entry.removesuffix(".")
    return name == stem or name.startswith(f"{stem}.")


def _remedy(name: str) -> str:
    same = sorted(known for known in REGISTERED if known.split(".")[-1] == name.split(".")[-1])
    hint = f"Did you mean {same[0]!r}? " if same else ""
    entry = name if name.startswith(("clep.", "torch.")) else name.split(".")[0]
    return f'{hint}If it is your own class, or you trust its author, add allow=[{entry}] (in Python allow=["{entry}"])'
