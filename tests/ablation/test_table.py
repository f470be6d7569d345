from pathlib import Path

import pytest
from rich.console import Console

from clep.ablation.cells import Outcome
from clep.ablation.grid import Cell, Grid
from clep.ablation.table import Spread, as_data, chosen_metrics, draw, in_terminal, markdown, rows_of, short_names


def outcomes(values: dict[str, list[float | None]]) -> list[Outcome]:
    return [
        Outcome(Cell(row, str(seed), ()), None if value is None else {"a/b": value, "seconds/fit": 2.0}, 9.0)
        for row, of in values.items()
        for seed, value in enumerate(of)
    ]


def test_spread_by_hand() -> None:
    spread = Spread((1.0, 2.0, 6.0))
    assert spread.mean == 3.0
    assert spread.standard_deviation == pytest.approx((((-2) ** 2 + (-1) ** 2 + 3**2) / 2) ** 0.5)
    assert str(spread) == "3.0 ± 2.6"
    assert str(Spread((0.125, 0.125))) == "0.125 ± 0.000"
    assert (str(Spread((5.0,))), Spread((5.0,)).standard_deviation) == ("5.0", None)


def test_rows_keep_their_order_and_count_what_failed() -> None:
    rows = rows_of(outcomes({"z": [1.0, None, 3.0], "a": [None, None, None]}), ["a/b", "not/there"])
    assert [(row.name, row.runs, row.cells) for row in rows] == [("z", 2, 3), ("a", 0, 3)]
    assert rows[0].metrics == {"a/b": Spread((1.0, 3.0))}
    assert (rows[1].metrics, rows[1].fit_s) == ({}, None)


def test_a_mean_over_fewer_seeds_than_the_row_has_is_marked() -> None:
    found = outcomes({"whole": [1.0, 3.0], "diverged": [1.0, 3.0, 5.0], "all diverged": [1.0], "failed": [None]})
    for index in (3, 5):
        found[index].metrics["a/b"] = None  # what not-a-number is in metrics.json
    rows = rows_of(found, ["a/b"])
    text = markdown(as_data(Grid(), found, ["a/b"], ""), rows)
    for line in (
        "| whole | 2.0 ± 1.4 | 2.0 ± 0.0 |",
        "| diverged | 3.0 ± 2.8 (2 of 3) | 2.0 ± 0.0 |",
        "| all diverged | – (0 of 1) | 2.0 |",
        "| failed (0 of 1 runs) | – | – |",
        "(n of m): mean of n runs; the other runs of the row have no finite value of this metric.",
    ):
        assert line in text.splitlines()
    console = Console(record=True, width=120)
    console.print(in_terminal(rows, ["a/b"], "title"))
    assert "3.0 ± 2.8 (2 of 3)" in (shown := console.export_text())
    assert "(n of m)" in shown
    assert "(n of m)" not in markdown(as_data(Grid(), found[:2], ["a/b"], ""), rows[:1])


@pytest.mark.parametrize(
    ("metrics", "short"),
    [
        (["choice/order/accuracy", "choice/now/accuracy"], ["order", "now"]),
        (["a/b/c", "a/b/c/d"], ["c", "c/d"]),
        (["a/x", "b/x"], ["a", "b"]),
        (["a/b"], ["a/b"]),
        (["val/t2v/r1", "train/loss"], ["val/t2v/r1", "train/loss"]),
    ],
)
def test_names_without_what_all_share(metrics: list[str], short: list[str]) -> None:
    assert short_names(metrics) == short


def test_the_figure_shows_every_row_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    few, many = ({f"row {i}": [float(i), i + 1.0, None] for i in range(count)} for count in (2, 12))
    for name, values in (("few", few), ("many", many), ("again", many)):
        draw(tmp_path / f"{name}.png", rows_of(outcomes(values), ["a/b"]), ["a/b"])
    sizes = {name: Image.open(tmp_path / f"{name}.png").size for name in ("few", "many")}
    assert sizes["many"][1] > 2 * sizes["few"][1]
    assert (tmp_path / "many.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_the_terminal_table_fits_and_says_what_it_leaves_out() -> None:
    names = [f"some/long/metric/name_{index}/accuracy" for index in range(20)]
    metrics = dict.fromkeys(names, 50.0)
    found = [Outcome(Cell("a row with a long name", "0", ()), metrics | {"seconds/fit": 2.0}, 1.0)]
    console = Console(record=True, width=120)
    console.print(in_terminal(rows_of(found, names), names, "table.md"))
    lines = console.export_text().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 120
    assert all(line.count("│") == lines[2].count("┃") for line in lines if "│" in line)
    shown = sum("name_" in part for part in lines[2].split("┃"))
    assert 2 <= shown < 20
    assert f"{20 - shown} further metrics: see table.md." in "".join(lines)


def test_the_metrics_that_people_compare_come_first() -> None:
    names = ["a/other", "val/retrieval/t2v/mean_rank", "val/retrieval/t2v/r1", "zeroshot/kinetics/top1", "train/loss"]
    found = [Outcome(Cell("x", "0", ()), dict.fromkeys(names, 1.0), 1.0)]
    expected = ["zeroshot/kinetics/top1", "val/retrieval/t2v/r1", "a/other", "val/retrieval/t2v/mean_rank"]
    assert chosen_metrics(found, []) == expected
