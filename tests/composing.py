"""Compose the settings of a training quickly: Hydra takes 0.3 s for each choice of files, and tests share most."""

import copy
import functools

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from clep.config.folder import config_folder
from clep.config.resolvers import register_resolvers


def compose_train(*overrides: str) -> DictConfig:
    """Return what Hydra composes from these overrides; files are chosen once a process, and values set in a copy."""
    register_resolvers()
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [one for one in parsed if not _chooses_files(one.key_or_group)]
    files = tuple(str(one.input_line) for one in parsed if _chooses_files(one.key_or_group))
    cfg = copy.deepcopy(_of_files(files))
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    return cfg


def _chooses_files(key: str) -> bool:
    """Return whether an override changes which files Hydra reads, and not a value in them."""
    return "/" in key or key == "hydra.searchpath" or (config_folder() / key).is_dir()


@functools.cache
def _of_files(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base=None):
        return compose("train", list(overrides))
