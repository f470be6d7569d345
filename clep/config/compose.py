"""Compose a config from the YAML files of `conf/`, a config folder of the user's, and overrides `key=value`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clep.config.folder import config_folder
from clep.config.mistakes import check_choices, explain
from clep.config.overrides import override
from clep.config.plugins import register_plugins
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
    register_plugins()
    check_choices(overrides, [] if config_dir is None else [config_dir])
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
        folders = [] if config_dir is None else [config_dir]
        raise InputError(explain(error, overrides, folders)) from error


@contextmanager
def _outside_of_an_application() -> Iterator[None]:
    """Let configs be composed within a Hydra application too, which Hydra refuses as long as its own state is set."""
    outside = GlobalHydra.instance()
    own, outside.hydra = outside.hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = own  # another instance than before: `initialize_config_dir` leaves a copy


def set_path(cfg: DictConfig, key: str, path: str | Path) -> None:
    """Set a path in a composed config literally: quotes, `=` and `${` in it are not interpreted."""
    OmegaConf.update(cfg, key, str(path).replace("${", "\\${"))
