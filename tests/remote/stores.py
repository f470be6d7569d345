"""Stores behind URLs for tests, and a cache of each test's own; every test of this folder has them."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from huggingface_hub import HfFileSystem

from clep.remote import cache, reading
from tests.hub_server import Hub, serve_hub


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, local servers without a proxy, and second tries without a pause."""
    monkeypatch.setenv("CLEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for module in (cache, reading):
        monkeypatch.setattr(module, "PAUSES_S", (0.0,))


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """The store of `memory://`, emptied after the test."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A stand-in of the hub, for `hf://`."""
    HfFileSystem.clear_instance_cache()
    with serve_hub(monkeypatch, str(tmp_path / "hub")) as running:
        yield running
    HfFileSystem.clear_instance_cache()


def upload(memory: fsspec.AbstractFileSystem, path: Path) -> str:
    """Copy a file or folder into the store; return its URL."""
    memory.put(str(path), f"/models/{path.name}", recursive=True)
    return f"memory://models/{path.name}"
