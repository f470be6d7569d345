"""Imports point down: a module may import from its own room and from rooms below it, never in a circle."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "clep"
LAYERS = [
    {"errors", "progress"},
    {"remote"},
    {"hub"},
    {"answers", "device", "files", "machine"},
    {"checksums", "tables", "weights"},
    {"columns", "hdf5"},
    {"config", "compute"},
    {"bank", "text", "command_line"},
    {"datasets", "video"},
    {"models", "losses", "metrics"},
    {"data", "index"},
    {"extraction"},
    {"training", "evaluation", "preprocess", "pretrained"},
    {"view"},
    {"demo", "ablation", "train", "evaluate", "report"},
    {"ablate", "leaderboard", "search", "share"},
    {"commands"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
COMMAND_LINES = {"preprocess/__main__.py", "demo/__main__.py"}


@functools.cache
def imports_of(path: Path) -> set[str]:
    """Return the dotted names of the modules of clep that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "clep":
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "clep"}
    return {name for name in found if name != "clep" and is_module(name)}


def is_module(name: str) -> bool:
    """Return whether a dotted name is a module or package of clep."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@pytest.mark.parametrize("path", MODULES.values(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    if str(relative) == "__init__.py" or str(relative) in COMMAND_LINES:
        return
    home = relative.parts[0].removesuffix(".py")
    rooms = {name.split(".")[1] for name in imports_of(path)} - {home}
    up = {room for room in rooms if LAYER[room] >= LAYER[home]}
    assert not up, f"{relative} imports {sorted(up)}"


def test_no_two_modules_of_a_room_import_each_other() -> None:
    """Below the first level too: inside a room the imports form no circle (packages' `__init__` aside)."""
    graph = {
        name: {
            other
            for other in imports_of(path)
            if other != name and other in MODULES and MODULES[other].name != "__init__.py"
        }
        for name, path in MODULES.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("folder", ["losses", "metrics", "models", "evaluation"])
def test_these_know_no_lightning(folder: str) -> None:
    allowed = {"callback.py"}
    for path in (PACKAGE / folder).glob("*.py"):
        if path.name not in allowed:
            assert "pytorch_lightning" not in path.read_text(encoding="utf-8"), path


LIGHTNING, MODELS = {"pytorch_lightning"}, {"transformers", "efficientnet_lite_pytorch", "sentence_transformers", "av"}
NOT_LOADED = {
    "clep.checksums": {"torch", "h5py", "pandas", "pyarrow"},
    "clep.ablation.cells": LIGHTNING | MODELS | {"torch", "h5py", "pandas", "pyarrow"},
    "clep.ablate": LIGHTNING | MODELS,
    "clep.video.encode": {"av"},
    "clep.video.encoders": MODELS,
    "clep.losses": LIGHTNING | MODELS,
    "clep.preprocess.kinetics": LIGHTNING,
    "clep.pretrained": LIGHTNING,
    "clep.evaluation": LIGHTNING,
}
IMPORT_ALL = """
import importlib, json, sys
for module, heavy in json.loads(sys.argv[1]).items():
    importlib.import_module(module)
    loaded = sorted(set(heavy) & set(sys.modules))
    assert not loaded, (module, loaded)
"""


def test_importing_these_loads_no_lightning() -> None:
    """Nor other heavy libraries; one after the other in one process, since most of them start PyTorch."""
    listed = json.dumps({module: sorted(heavy) for module, heavy in NOT_LOADED.items()})
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, listed], cwd=PACKAGE.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_files_have_a_readable_length() -> None:
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES.values()}
    assert not {path: length for path, length in lengths.items() if length > 500}
