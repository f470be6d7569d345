from types import SimpleNamespace

import pytest

from clep.training import finish_loggers, print_results


def test_the_table_has_a_line_for_each_metric(capsys: pytest.CaptureFixture[str]) -> None:
    print_results({"a/top1": 0.5, "b": 1e-5}, {"a/top1": 71.234, "c": 3.0}, "a run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "a run"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [["a/top1", "0.50", "71.23"], ["b", "1e-05", "–"], ["c", "–", "3.00"]]


def test_only_loggers_that_can_finish_are_finished() -> None:
    ended = []
    finish_loggers(
        [
            SimpleNamespace(experiment=SimpleNamespace(finish=lambda: ended.append("w"))),
            SimpleNamespace(experiment=object()),
        ]
    )
    assert ended == ["w"]
