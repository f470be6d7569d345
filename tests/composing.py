"""Compose settings quickly: Hydra takes 0.3 s for each choice of files, a training composes three times."""

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import omegaconf.base
from hydra import compose, initialize_config_dir
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, InputDefault, Overrides
from omegaconf import DictConfig

from clep.config.folder import config_folder
from clep.config.resolvers import register_resolvers


class Remembered:
    """Files that Hydra has read, and what it composes from one choice of them, kept for the whole process.

    Values are set in copies. Only of the package's own files: those of config folders that tests write may change.
    """

    def __init__(self) -> None:
        self.create_defaults_list: Callable[..., DefaultsList] = config_loader_impl.create_defaults_list
        self.compose: Callable[..., DictConfig] = ConfigLoaderImpl._compose_config_from_defaults_list
        self.load: Callable[..., Any] = ConfigRepository.load_config
        self.copy_sources: Callable[..., None] = CachingConfigRepository.__init__
        self.choices: Callable[..., DictConfig] = defaults_list._create_interpolation_map
        self.parse: Callable[..., Any] = omegaconf.base.parse
        self._files: dict[tuple[Any, ...], bytes] = {}  # pickled
        self._lists: dict[tuple[Any, ...], DefaultsList] = {}
        self._configs: dict[int, bytes] = {}  # pickled, by the identity of a list of defaults that stays in `_lists`

    def install(self) -> None:
        """Let Hydra use it in this process."""

        def loaded(repo: ConfigRepository, config_path: str) -> Any:
            return self._file(repo, config_path)

        def composed(loader: ConfigLoaderImpl, defaults: list[Any], repo: IConfigRepository) -> DictConfig:
            return self._config(loader, defaults, repo)

        omegaconf.base.parse = functools.lru_cache(4096)(self.parse)  # trees, which nothing changes
        defaults_list._create_interpolation_map = self._choices
        CachingConfigRepository.__init__ = _share_sources
        ConfigRepository.load_config = loaded
        config_loader_impl.create_defaults_list = self._defaults
        ConfigLoaderImpl._compose_config_from_defaults_list = composed

    def _defaults(
        self,
        repo: IConfigRepository,
        config_name: str | None,
        overrides_list: list[Any],
        prepend_hydra: bool,
        skip_missing: bool,
    ) -> DefaultsList:
        options = {"config_name": config_name, "prepend_hydra": prepend_hydra, "skip_missing": skip_missing}
        sources = _sources(repo)
        if sources is None:
            return self.create_defaults_list(repo=repo, overrides_list=overrides_list, **options)
        values = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        files = [one for one in overrides_list if one not in values and not one.is_sweep_override()]
        key = (*options.values(), *sources, *(one.input_line for one in files))
        if key not in self._lists:
            self._lists[key] = self.create_defaults_list(repo=repo, overrides_list=files, **options)
        known = self._lists[key]
        return DefaultsList(known.defaults, known.defaults_tree, values, known.overrides)

    def _choices(self, overrides: Overrides, defaults: list[InputDefault], self_added: bool) -> DictConfig:
        """Return what the names of `defaults` may refer to: a quarter of the time, and few names refer to anything."""
        if any(one.is_interpolation() for one in defaults):
            return self.choices(overrides, defaults, self_added)
        return DictConfig({})

    def _file(self, repo: ConfigRepository, config_path: str) -> Any:
        sources = _sources(repo)
        if sources is None:
            return self.load(repo, config_path)
        if (*sources, config_path) not in self._files:
            self._files[*sources, config_path] = pickle.dumps(self.load(repo, config_path))
        return pickle.loads(self._files[*sources, config_path])

    def _config(self, loader: ConfigLoaderImpl, defaults: list[Any], repo: IConfigRepository) -> DictConfig:
        if all(one.defaults is not defaults for one in self._lists.values()):
            return self.compose(loader, defaults, repo)
        if id(defaults) not in self._configs:
            self._configs[id(defaults)] = pickle.dumps(self.compose(loader, defaults, repo))
        return pickle.loads(self._configs[id(defaults)])  # 7 times as fast as copy.deepcopy


def _share_sources(repo: CachingConfigRepository, delegate: IConfigRepository) -> None:
    """As Hydra does, without copying all registered settings: 25 ms. Other search paths replace the list of sources."""
    repo.delegate = copy.copy(delegate)
    repo.cache = {}


def _sources(repo: IConfigRepository) -> list[str] | None:
    """Return what a repository reads; None if a folder of it is not the package's."""
    sources = [(source.scheme(), source.path) for source in repo.get_sources()]
    if any(scheme == "file" and not path.startswith(str(config_folder())) for scheme, path in sources):
        return None
    return [f"{scheme}://{path}" for scheme, path in sources]


remembered = Remembered()


def compose_train(*overrides: str) -> DictConfig:
    """Return the settings of a training with these overrides, not yet checked."""
    register_resolvers()
    with initialize_config_dir(str(config_folder()), version_base=None):
        return compose("train", list(overrides))
