"""Console commands: `clep-train` and others do what `python -m clep.…` does, with the current folder importable."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def train() -> Any:
    """Run `clep-train`: train and evaluate, see `clep.train`."""
    return _call("clep.train")


def preprocess() -> Any:
    """Run `clep-preprocess`: a preprocessing job, see `clep.preprocess`."""
    return _call("clep.preprocess.__main__")


def evaluate() -> Any:
    """Run `clep-evaluate`: measure a trained model or two banks, see `clep.evaluate`."""
    return _call("clep.evaluate")


def ablate() -> Any:
    """Run `clep-ablate`: train the cells of a grid and compare them, see `clep.ablate`."""
    return _call("clep.ablate")


def leaderboard() -> Any:
    """Run `clep-leaderboard`: published models and runs on the field's benchmarks, see `clep.leaderboard`."""
    return _call("clep.leaderboard")


def search() -> Any:
    """Run `clep-search`: the search page, see `clep.search`."""
    return _call("clep.search")


def report() -> Any:
    """Run `clep-report`: the report of a run, of several compared, or of an ablation, see `clep.report`."""
    return _call("clep.report")


def share() -> Any:
    """Run `clep-share`: write a model with its card, and upload it to the hub, see `clep.share`."""
    return _call("clep.share")


def _call(module: str) -> Any:
    """Call a module's `main` with the current folder on the import path, for parts of the user's own."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    main: Callable[[], Any] = import_module(module).main
    return main()
