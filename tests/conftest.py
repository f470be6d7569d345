"""Settings for every test: offline, seeded by name, and the shapes and types of `clep` enforced at run time."""

import gc
import hashlib
import multiprocessing
import multiprocessing.forkserver
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis.internal.conjecture import providers

from tests import forkserver, type_checks

type_checks.install("clep", everything=os.environ.get("CLEP_TYPE_CHECKS") == "all")

from tests.composing import remembered  # noqa: E402 - imports parts of clep, which the line above checks

gc.disable()  # until all tests are collected: what they import stays, and searching it again and again takes seconds

remembered.install()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; tests of Ctrl-C send it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test outlives a power cut, and flushing a file to the disk takes 10 ms.
os.fsync = lambda descriptor: None

# `make test` draws the same examples on every machine, `make test-slow` more of them; `make fuzz` draws new ones, and
# keeps those that failed.
FIXED = {"derandomize": True, "database": None, "deadline": None}
hypothesis.settings.register_profile("fixed", max_examples=40, **FIXED)
hypothesis.settings.register_profile("slow", max_examples=150, **FIXED)
hypothesis.settings.register_profile("fuzz", print_blob=True, deadline=None)
PROFILE = os.environ.get("CLEP_HYPOTHESIS", "fixed")
hypothesis.settings.load_profile(PROFILE)
if PROFILE != "fuzz":
    # Hypothesis also draws constants that stand in the modules imported so far: other ones after other tests.
    providers._get_local_constants = lambda: providers._local_constants

forkserver.install()


def seed_by_name(name: str) -> None:
    """Seed the global generators of Python, NumPy and PyTorch with a digest of `name`."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what must not depend on earlier tests
    # `torch.manual_seed` also formats three stack traces for GPUs that are not in use yet: 2 ms a test.
    (torch.manual_seed if torch.cuda.is_initialized() else torch.default_generator.manual_seed)(seed)


@pytest.hookimpl(tryfirst=True)  # before a shuffle
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests that wait first; skip benchmarks, notebooks and cases beside quicker ones, but not in `make test-slow`.

    xdist gives each worker a part of the list: one worker waits while the others use the cores, and at the end nobody
    waits for a long test.
    """
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)
    if os.environ.get("CLEP_SLOW_TESTS"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: `make test-slow` runs it"))


def pytest_collection_finish() -> None:
    """Fork the server of processes, and spare the garbage collector the two million objects that stay to the end.

    A server that the first test in need of it forked would keep this test's environment variables and open files.
    """
    gc.freeze()
    gc.enable()
    multiprocessing.forkserver.ensure_running()


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Seed what modules draw while they are imported: it must not depend on which modules came before."""
    seed_by_name(collector.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef, request: pytest.FixtureRequest) -> Iterator[None]:
    """Seed fixtures that several tests share, whichever of these comes first."""
    if fixturedef.scope != "function":
        seed_by_name(f"{fixturedef.baseid}::{fixturedef.argname}[{request.param_index}]")
    return (yield)


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    # Shared fixtures were made before this one, so their draws do not move the test's own.
    seed_by_name(request.node.nodeid)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:  # a fork in a later test would wait for threads that it does not have
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the tests share, for what is made once; lock it meanwhile."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture
def quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let libraries that spawn processes get them from the forkserver; what they are given is pickled all the same."""
    get_context = multiprocessing.get_context
    instead = {"spawn": "forkserver"}
    monkeypatch.setattr(
        torch.multiprocessing, "get_context", lambda method=None: get_context(instead.get(method, method))
    )
