from pathlib import Path
from types import SimpleNamespace

import pytest

from clep.training import CurveLogger, finish_loggers, print_results


def test_the_table_has_a_line_for_each_metric(capsys: pytest.CaptureFixture[str]) -> None:
    print_results({"a/top1": 0.5, "b": 1e-5}, {"a/top1": 71.234, "c": 3.0}, "a run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "a run"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [["a/top1", "0.50", "71.23"], ["b", "1e-05", "–"], ["c", "–", "3.00"]]


def test_a_second_logger_in_a_folder_keeps_the_curves_before_it(tmp_path: Path) -> None:
    for value in range(3):
        logger = CurveLogger(tmp_path, name=None, version="csv")
        logger.log_metrics({"a": value}, step=5)
        logger.save()
    found = {path.name: path.read_text().split() for path in (tmp_path / "csv").glob("*.csv")}
    assert found == {
        "metrics-1.csv": ["a,step", "0,5"],
        "metrics-2.csv": ["a,step", "1,5"],
        "metrics.csv": ["a,step", "2,5"],
    }


def test_only_loggers_that_can_finish_are_finished() -> None:
    ended = []
    finish_loggers(
        [
            SimpleNamespace(experiment=SimpleNamespace(finish=lambda: ended.append("w"))),
            SimpleNamespace(experiment=object()),
        ]
    )
    assert ended == ["w"]


def test_without_metrics_from_before_there_is_no_column_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_results({}, {"a": 2.0, "zeroshot/x/top1": 1.0}, "a run", "Measured: the last weights")
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [["zeroshot/x/top1", "1.00"], ["a", "2.00"]]
    assert lines[-1].strip() == "Measured: the last weights"
