import re
from pathlib import Path

import pytest

from clep.ablation import Cell, Grid, read_grid
from clep.errors import InputError


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return f"ablation='{path}'"


def test_a_grid_is_every_combination_seed_after_seed() -> None:
    grid = read_grid(["experiment=demo", "operator=none,nl", "optim.optimizer.lr=1e-3,1e-4", "seed=0,1", "out=there"])
    assert grid.fixed == ("experiment=demo",)
    assert grid.swept == {"operator": ("none", "nl"), "optim.optimizer.lr": ("0.001", "0.0001")}
    assert (grid.seeds, grid.out, grid.table, grid.processes) == (("0", "1"), Path("there"), Path("there/table"), 1)
    cells = grid.cells()
    assert len(cells) == len({cell.name for cell in cells}) == 8
    assert [cell.seed for cell in cells] == ["0"] * 4 + ["1"] * 4
    assert cells[1].row == "operator=none, optim.optimizer.lr=0.0001"
    assert cells[6].overrides == ("experiment=demo", "operator=nl", "optim.optimizer.lr=0.001", "seed=1")
    assert cells[6].name == "operator=nl,_optim.optimizer.lr=0.001,seed=1-" + cells[6].name[-6:]


def test_hydras_own_grammar_of_sweeps() -> None:
    grid = read_grid(["seed=range(3)", "data.batch_size=choice(64,128)", "+data.sources={a:[1,2]}", "~logger"])
    assert grid.seeds == ("0", "1", "2")
    assert grid.swept == {"data.batch_size": ("64", "128")}
    assert grid.fixed == ("+data.sources={a:[1,2]}", "~logger")
    assert read_grid(["operator=nl,nl,avg"]).swept == {"operator": ("nl", "avg")}


def test_without_anything_swept_there_is_one_cell() -> None:
    assert read_grid(["experiment=demo"]).cells() == [Cell("as configured", None, ("experiment=demo",))]
    assert read_grid(["seed=3"]).cells() == [Cell("as configured", "3", ("seed=3",))]


def test_a_file_of_named_variants_and_what_the_words_replace(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        overrides: [experiment=demo, data.batch_size=64, "paths.data=d/${seed}"]
        seeds: [0, 1, 2]
        metrics: [choice/*]
        variants:
          clip: []
          "clip, live": [loss=clip, model=trainable_text]
        """,
    )
    grid = read_grid([file])
    assert grid.out == Path("runs/mine")
    assert (grid.seeds, grid.metrics, len(grid.cells())) == (("0", "1", "2"), ("choice/*",), 6)
    assert grid.cells()[1] == Cell(
        "clip, live",
        "0",
        *(
            (
                "experiment=demo",
                "data.batch_size=64",
                "paths.data=d/${seed}",
                "loss=clip",
                "model=trainable_text",
                "seed=0",
            ),
        ),
    )
    other = read_grid([file, "data.batch_size=32", "optim=a,b", "seed=7", "metrics=[x/y,'z w']", "processes=2"])
    assert other.fixed == ("experiment=demo", "paths.data=d/${seed}", "data.batch_size=32")
    assert (other.seeds, other.metrics, other.processes) == (("7",), ("x/y", "z w"), 2)
    assert [cell.row for cell in other.cells()] == [
        "clip, optim=a",
        "clip, optim=b",
        "clip, live, optim=a",
        "clip, live, optim=b",
    ]


def test_names_of_cells_are_names_of_folders_and_differ() -> None:
    rows = ["a/b", "a:b", "x" * 300, "x" * 299 + "y", "..", "ä", "operator=nl"]
    names = [Cell(row, "0", ()).name for row in rows] + [Cell("..", None, ()).name]
    assert len(set(names)) == len(names)
    assert all("/" not in name and not name.startswith(".") and len(name) < 120 for name in names)
    assert Cell("operator=nl", "0", ()).name == "operator=nl,seed=0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["operator"], r"'operator' is not key=value"),
        (["ot=x", "procesess"], r"'procesess'.*Did you mean 'processes'"),
        (["operator=a,,b"], r"cannot read the settings"),
        (["seed=interval(0,1)"], r"seed=interval\(0,1\): list the values"),
        (["data.x=glob(*)"], r"list the values"),
        (["out=a,b"], r"out takes one value"),
        (["processes=0"], r"processes=0 should be a whole number"),
        (["processes=two"], r"processes=two"),
        (["metrics=[1]"], r"metrics=\[1\] should be a list of names"),
        (["ablation=nothing_like_it"], r"there is no ablation .*nothing_like_it\.yaml"),
    ],
)
def test_wrong_words_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_grid(words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variant: {a: []}", r"variant: ablation_file has no option 'variant'. Did you mean 'variants'"),
        ("variants: {a: [x]}", r"'x' is not key=value"),
        ("variants: {a: ['x=1,2']}", r"variant 'a': x=1,2 has several values"),
        ("variants: {a: ['seed=1']}", r"variant 'a' sets the seed"),
        ("variants: {a: 'x=1'}", r"variants"),
        ("variants: {}", r"variants is empty"),
        ("seeds: many", r"seeds='many'"),
        ("[1, 2]", r"should have the keys"),
        ("a: [", r"cannot be read"),
    ],
)
def test_wrong_ablation_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_grid([written(tmp_path, text)])


@pytest.mark.parametrize("word", ["loss=bce", "loss=bce,clip", "++loss=bce"])
def test_a_setting_of_a_variant_cannot_be_overridden(tmp_path: Path, word: str) -> None:
    file = written(tmp_path, "{overrides: [loss=clip], variants: {CLIP: [], 'CLIP, live': [loss=clip, model=live]}}")
    message = rf"{re.escape(word)}: variant 'CLIP, live' sets loss itself.* ablation=COPY\.yaml"
    with pytest.raises(InputError, match=message):
        read_grid([file, word])
    assert read_grid([file, "loss.smoothing=0.1"]).fixed == ("loss=clip", "loss.smoothing=0.1")


def test_a_file_cannot_sweep_what_its_variants_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loss=clip,bce: variant 'CLIP' sets loss itself"):
        read_grid([written(tmp_path, "{overrides: ['loss=clip,bce'], variants: {CLIP: [loss=clip]}}")])


def test_defaults() -> None:
    assert Grid().cells() == [Cell("as configured", None, ())]
