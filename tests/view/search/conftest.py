from collections.abc import Iterator
from pathlib import Path

import pytest

from clep.view.search import SearchEngine
from tests.view.search.small_world import engine_of, write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="session")
def engine(world: Path) -> Iterator[SearchEngine]:
    engine = engine_of(world)
    yield engine
    engine.videos.close()
