"""Compose a config from the YAML files of `conf/`, a config folder of the user's, and overrides `key=value`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from clep.config.check import did_you_mean
from clep.config.folder import config_folder
from clep.config.overrides import override
from clep.config.resolvers import register_resolvers
from clep.errors import InputError


def compose_config(name: str, overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> DictConfig:
    """Compose `conf/<name>.yaml` with overrides, in Hydra's grammar.

    Args:
        name: "train" or "preprocess".
        overrides: e.g. `["experiment=demo", "data.batch_size=64"]`.
        config_dir: a folder of the user's own groups, searched after `conf/`, as Hydra's `--config-dir`.

    Raises:
        InputError: the folder is missing, or an override does not fit the config; the message suggests the right key.
    """
    register_resolvers()
    words = list(overrides)
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise InputError(f"--config-dir {config_dir} is not a folder")
        own = OmegaConf.select(OmegaConf.load(config_folder() / f"{name}.yaml"), "hydra.searchpath", default=[])
        words.insert(0, override("hydra.searchpath", [*own, f"file://{Path(config_dir).resolve()}"]))
    try:
        with _outside_of_an_application(), initialize_config_dir(str(config_folder()), version_base=None):
            return compose(name, words)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(describe_compose_error(error)) from error


@contextmanager
def _outside_of_an_application() -> Iterator[None]:
    """Let configs be composed within a Hydra application too, which Hydra refuses as long as its own state is set."""
    hydra = GlobalHydra.instance()
    own, hydra.hydra = hydra.hydra, None
    try:
        yield
    finally:
        hydra.hydra = own


def describe_compose_error(error: Exception) -> str:
    """Return what is wrong with overrides that Hydra refused, with the nearest setting or choice for one that is not.

    Args:
        error: of Hydra or OmegaConf.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"there is no {group}={name}. {did_you_mean(name, error.options)}"
    cause = error.__cause__
    if not isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return str(error)
    known = list(cause.parent_node) if isinstance(cause.parent_node, DictConfig) else []
    return f"there is no setting {cause.full_key}. {did_you_mean(str(cause.key), map(str, known))}"


def set_path(cfg: DictConfig, key: str, path: str | Path) -> None:
    """Set a path in a composed config literally: quotes, `=` and `${` in it are not interpreted."""
    OmegaConf.update(cfg, key, str(path).replace("${", "\\${"))
