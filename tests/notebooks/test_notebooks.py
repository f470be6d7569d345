"""Each notebook runs, offline and within its own temporary folder, and what it shows is fit to be read by others."""

import ast
import inspect
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

_ROOT = Path(__file__).parents[2]
_NOTEBOOKS = sorted((_ROOT / "notebooks").glob("*.ipynb"))
# Two folders below the root, not within a word or a URL: "/home/someone", but not "zeroshot/kinetics/top1".
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<-])/[\w.-]+/[\w.-]+|\b[A-Z]:\\\w")
_MOST_BYTES = 1_000_000
_PICTURES = {
    "01_features_tutorial": 6,
    "02_extract_video_features": 7,
    "03_long_term_feature_banks": 3,
    "04_objectives": 5,
    "05_your_own_data": 2,
}

each_notebook = pytest.mark.parametrize("path", _NOTEBOOKS, ids=[path.stem for path in _NOTEBOOKS])


def _code(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def _shown(cell: nbformat.NotebookNode) -> str:
    """Return all that a cell shows as text, without its pictures."""
    texts = [output.get("text", "") for output in cell.outputs]
    for output in cell.outputs:
        texts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(texts)


@pytest.mark.slow
@each_notebook
def test_runs_offline_on_tiny_data(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLEP_NOTEBOOK_SIZE", "tiny")
    monkeypatch.delenv("CLEP_NOTEBOOK_VIDEOS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = {file.name for file in (_ROOT / "notebooks").iterdir()}
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(_ROOT / "notebooks")}}
    ).execute()
    ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = sum("image/png" in output.get("data", {}) for cell in ran for output in cell.outputs)
    assert pictures >= _PICTURES[path.stem]
    assert not [line for cell in ran for line in _shown(cell).splitlines() if "Warning" in line]
    assert not [match.group() for cell in ran for match in _ABSOLUTE_PATH.finditer(_shown(cell))]
    after = {file.name for file in (_ROOT / "notebooks").iterdir()}
    assert after == before, "it must write into its temporary folder only"


@each_notebook
def test_what_it_imports_and_each_class_that_it_calls_exist(path: Path) -> None:
    """The quick part of running it: cells parse, imports succeed, and classes and functions know their options."""
    tree = ast.parse("\n".join(_without_magics(cell.source) for cell in _code(path)))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names: dict[str, object] = {}
    exec(compile(ast.Module(imports, []), path.name, "exec"), names)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    ours = [call for call in calls if getattr(names.get(call.func.id), "__module__", "").startswith("clep")]
    assert ours
    for call in ours:
        known = inspect.signature(names[call.func.id]).parameters
        if not any(one.kind is one.VAR_KEYWORD for one in known.values()):
            assert {keyword.arg for keyword in call.keywords if keyword.arg} <= set(known), call.func.id


def _without_magics(source: str) -> str:
    return "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())


@each_notebook
def test_is_stored_with_the_outputs_of_one_whole_run(path: Path) -> None:
    cells = _code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert path.stat().st_size < _MOST_BYTES


@each_notebook
def test_stored_outputs_name_no_folder_of_the_machine_that_made_them(path: Path) -> None:
    assert not [match.group() for cell in _code(path) for match in _ABSOLUTE_PATH.finditer(_shown(cell))]


@each_notebook
def test_asks_for_the_kernel_that_everyone_has(path: Path) -> None:
    assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"


def test_every_notebook_is_in_the_list() -> None:
    listed = (_ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    assert _NOTEBOOKS
    assert [path.name for path in _NOTEBOOKS if path.name not in listed] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("written to: data/clep/kinetics/clips.coverage.json", False),
        ("zeroshot/kinetics/top1", False),
        ("https://example.org/a/b", False),
        ("saved in /home/someone/data", True),
        ("C:\\Users", True),
        ("'/opt/venv/lib/x.py'", True),
    ],
)
def test_what_counts_as_an_absolute_path(text: str, found: bool) -> None:
    assert bool(_ABSOLUTE_PATH.search(text)) == found
