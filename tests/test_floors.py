"""Imports point down: a module may import from its own folder and from floors below."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "clep"
FLOORS = [
    {"errors", "files", "build", "config_check", "config_folder", "cpu_products", "machine"},
    {"bank", "text", "video", "compute"},
    {"models", "losses", "metrics"},
    {"data"},
    {"training", "evaluation", "preprocess"},
    {"demo", "ablate", "ablation", "train", "evaluate", "pretrained", "resolvers", "settings", "tasks"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
COMMAND_LINES = {"preprocess/__main__.py", "demo/__main__.py"}


def imported(path: Path) -> set[str]:
    """Return the second part of each `clep.…` name that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "clep":
            names += [f"clep.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("clep.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    if str(relative) == "__init__.py" or str(relative) in COMMAND_LINES:
        return
    home = relative.parts[0].removesuffix(".py")
    for name in imported(path) - {home, "__version__"}:
        assert FLOOR[name] < FLOOR[home] or FLOOR[home] == FLOOR[name] in (0, 5), f"{relative} imports clep.{name}"


@pytest.mark.parametrize("folder", ["losses", "metrics", "models", "evaluation"])
def test_these_know_no_lightning(folder: str) -> None:
    allowed = {"callback.py"}
    for path in (PACKAGE / folder).glob("*.py"):
        if path.name not in allowed:
            assert "pytorch_lightning" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("module", ["clep.evaluation", "clep.pretrained", "clep.preprocess.kinetics", "clep.losses"])
def test_importing_these_loads_no_lightning(module: str) -> None:
    code = f"import sys, {module}; sys.exit('pytorch_lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_files_stay_short() -> None:
    long = {
        str(path): n
        for path in PACKAGE.rglob("*.py")
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long
