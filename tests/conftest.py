"""Settings for every test: offline, one seed, and shapes and types of `clep` enforced at run time."""

import multiprocessing
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("clep", "beartype.beartype")

# Processes of the start method "forkserver" are copies of one that has loaded these: seconds less for each.
multiprocessing.set_forkserver_preload(["torch", "sentence_transformers", "clep.text", "clep.train"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes a minute and tests a script alone, unless it is asked for."""
    if os.environ.get("CLEP_WHOLE_BENCHMARKS"):
        return
    for item in items:
        if item.get_closest_marker("whole_benchmark"):
            item.add_marker(pytest.mark.skip(reason="a whole benchmark: `make test-benchmarks` runs it"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let libraries that spawn processes get them from the forkserver; what they are given is pickled all the same."""
    get_context = multiprocessing.get_context
    instead = {"spawn": "forkserver"}
    monkeypatch.setattr(
        torch.multiprocessing, "get_context", lambda method=None: get_context(instead.get(method, method))
    )
