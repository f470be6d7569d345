"""Ablations from words to table, with a stand-in for training; and one whole with the real one."""

import json
import logging
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from clep.ablate import ablate, main
from clep.ablation.cells import wait_for_trainings
from clep.errors import InputError
from clep.machine import this_machine
from tests.ablation.stand_in import begin, read, started, use, wait_for


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    use(monkeypatch)
    return [f"log={tmp_path / 'log'}", f"out={tmp_path / 'out'}"]


def test_mean_and_sample_standard_deviation_of_each_row(tmp_path: Path, words: list[str]) -> None:
    console = Console(record=True, width=120)
    data = ablate([*words, "operator=none,nl", "seed=0,1,2"], console)
    assert data == read(tmp_path / "out" / "table.json")
    assert data["metrics"] == ["choice/a/accuracy"]
    assert data["rows"] == [
        {
            "row": f"operator={name}",
            "runs": 3,
            "metrics": {
                "choice/a/accuracy": {"mean": mean, "standard_deviation": 1.0, "each": [mean - 1, mean, mean + 1]}
            },
            "fit_seconds": {"mean": 4.0, "standard_deviation": 1.0, "each": [3.0, 4.0, 5.0]},
        }
        for name, mean in (("none", 51.0), ("nl", 91.0))
    ]
    assert [cell["seed"] for cell in data["cells"]] == ["0", "0", "1", "1", "2", "2"]
    assert all(cell["seconds"] > 0 and cell["failed"] is None for cell in data["cells"])
    assert {cell["machine"] for cell in data["cells"]} == {0}
    assert data["machines"] == [this_machine()]
    assert read(tmp_path / "out" / "operator=nl,seed=2" / "cell.json")["machine"] == this_machine()
    assert data["command"] == f"python -m clep.ablate {' '.join(words)} operator=none,nl seed=0,1,2"
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| operator=nl | 91.0 ± 1.0 | 4.0 ± 1.0 |" in text
    assert "Mean ± sample standard deviation of 3 seeds" in text
    assert "operator=none,nl seed=0,1,2" in text
    assert "91.0 ± 1.0" in console.export_text()


def test_the_same_command_again_trains_only_what_is_missing(tmp_path: Path, words: list[str]) -> None:
    first = ablate([*words, "operator=none,nl", "seed=0"])
    (tmp_path / "out" / "operator=nl,seed=0" / "metrics.json").unlink()
    (tmp_path / "out" / "operator=nl,seed=0" / "half.ckpt").write_text("")
    again = ablate([*words, "operator=none,nl,avg", "seed=0,1"])
    names = started(tmp_path / "log")
    assert names[:2] == ["operator=none,seed=0", "operator=nl,seed=0"]
    assert names[2:] == [
        "operator=nl,seed=0",
        "operator=avg,seed=0",
        *(f"operator={name},seed=1" for name in ("none", "nl", "avg")),
    ]
    assert not (tmp_path / "out" / "operator=nl,seed=0" / "half.ckpt").exists()
    assert again["cells"][0]["seconds"] == first["cells"][0]["seconds"]


def test_cells_that_were_timed_elsewhere_or_without_a_record_of_the_machine(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ablate([*words, "operator=none,nl", "seed=0"])["machines"][0]
    described = tmp_path / "out" / "operator=nl,seed=0" / "cell.json"
    old = read(described)
    del old["machine"], old["checksum"]
    described.write_text(json.dumps(old))
    there = {"cpu": "Cray-1", "cores": 1, "gpu": "NVIDIA H100", "python": "3.11", "torch": "2.9"}
    monkeypatch.setattr("clep.ablation.cells.this_machine", lambda: there)
    data = ablate([*words, "operator=none,nl", "seed=0,1", "metrics=['choice/*']"])
    assert data["machines"] == [here, there]
    assert [cell["machine"] for cell in data["cells"]] == [0, 0, 1, 1]
    text = (tmp_path / "out" / "table.md").read_text()
    assert f"(2 runs on {here['cores']} cores" in text
    assert "2 runs on 1 core (Cray-1) and NVIDIA H100)" in text
    assert "seed=0,1 'metrics=['\"'\"'choice/*'\"'\"']'" in text  # as a shell takes it


def test_a_failed_run_is_logged_and_the_others_are_written(
    tmp_path: Path, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = ablate([*words, "operator=wrong,none,killed,quiet", "seed=0,1", "processes=2"])
    failed = {cell["row"]: cell["failed"] for cell in data["cells"]}
    logs = {what: tmp_path / "out" / f"operator={what},seed=1" / "log.txt" for what in ("wrong", "killed", "quiet")}
    assert failed["operator=wrong"] == f"data.batch_size=0 must be at least 1; see {logs['wrong']}"
    assert failed["operator=killed"] == f"killed by signal 9 (out of memory?); see {logs['killed']}"
    assert failed["operator=quiet"] == f"ended with exit status 3; see {logs['quiet']}"
    assert failed["operator=none"] is None
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| operator=wrong (0 of 2 runs) | – | – |" in text
    assert "| operator=none | 50.5 ± 0.7 | 3.5 ± 0.7 |" in text
    assert "6 of 8 runs failed" in text
    assert "- operator=wrong, seed 1: data.batch_size=0 must be at least 1" in text
    assert "operator=wrong, seed 0 failed: data.batch_size=0" in caplog.text
    assert main([*words, "operator=wrong,none,killed,quiet", "seed=0,1"]) == 1


@pytest.mark.slow  # the reason in a log is tested by test_cells, a real cell by test_own_parts
def test_why_a_real_run_crashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # as without it, Hydra's last line is then advice
    crashes = ["loss._target_=torch.nn.TripletMarginLoss", "+loss.margin=-1.0"]
    reason = r"TripletMarginLoss.*margin.*; see .*seed=0-\w+/log\.txt"
    with pytest.raises(InputError, match=rf"the first: .*{reason}"):
        ablate(["experiment=demo", *crashes, "seed=0", f"out={tmp_path / 'out'}"])


def test_without_a_run_that_succeeded_nothing_is_written(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(InputError, match=r"none of 1 runs succeeded; the first: data\.batch_size=0"):
        ablate([*words, "operator=wrong"])
    assert not (tmp_path / "out" / "table.md").exists()


def test_another_ablation_in_the_same_folder_is_noticed(tmp_path: Path, words: list[str]) -> None:
    ablate([*words, "operator=nl", "seed=0,1"])
    with pytest.raises(InputError, match=r"out holds another ablation \(fixed: .*batch=8.*out=DIR"):
        ablate([*words, "batch=8", "operator=nl", "seed=0,1"])
    with pytest.raises(InputError, match=r"another ablation .*swept"):
        ablate([*words, "operator=nl,none", "seed=0,1"])
    file = tmp_path / "mine.yaml"
    file.write_text("variants: {a: [operator=nl], b: [operator=avg]}")
    other = [words[0], f"out={tmp_path / 'other'}", f"ablation='{file}'"]
    ablate(other)
    file.write_text("variants: {a: [operator=none], b: [operator=avg], c: [operator=nl]}")
    with pytest.raises(InputError, match=r"variant 'a': \['operator=nl'\] there, \['operator=none'\] now"):
        ablate(other)
    file.write_text("variants: {c: [operator=nl]}")
    assert [row["row"] for row in ablate(other)["rows"]] == ["c"]
    assert len(started(tmp_path / "log")) == 5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"mine holds files that no ablation wrote"):
        ablate([words[0], f"out={tmp_path / 'mine'}", "operator=nl,avg"])


def test_a_cell_with_other_settings_is_refused(tmp_path: Path, words: list[str]) -> None:
    ablate([*words, "operator=nl,none", "seed=0"])
    described = tmp_path / "out" / "operator=nl,seed=0" / "cell.json"
    changed = read(described)
    del changed["checksum"]
    described.write_text(json.dumps(changed).replace("operator=nl", "operator=avg"))
    with pytest.raises(InputError, match=r"operator=nl,seed=0 holds a run with other settings"):
        ablate([*words, "operator=nl,none", "seed=0"])


def test_metrics_are_chosen_by_name_or_pattern(words: list[str]) -> None:
    grid = [*words, "operator=nl,none"]
    assert ablate([*grid, "metrics=[train/loss,choice/*]"])["metrics"] == ["train/loss", "choice/a/accuracy"]
    with pytest.raises(InputError, match=r"no run has a metric 'choice/a/acuracy'. Did you mean 'choice/a/accuracy'"):
        ablate([*grid, "metrics=[choice/a/acuracy]"])


def test_the_path_of_the_table(tmp_path: Path, words: list[str]) -> None:
    ablate([*words, "operator=nl,none", f"table={tmp_path / 'docs' / 'v1.0'}"])
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {"v1.0.md", "v1.0.json", "v1.0.png"}
    assert "![" in (tmp_path / "docs" / "v1.0.md").read_text()


def test_without_matplotlib_there_is_a_table_and_a_warning(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ablate([*words, "operator=nl,none"])
    assert "no figure" in caplog.text
    assert "clep[notebooks]" in caplog.text
    assert {path.name for path in (tmp_path / "out").glob("table.*")} == {"table.md", "table.json"}
    assert "![" not in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "stopped by signal 15")]
)
def test_a_signal_ends_what_runs_and_keeps_what_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: signal.Signals, message: str
) -> None:
    process = begin([f"log={tmp_path / 'log'}", f"out={tmp_path / 'out'}", "operator=nl,slow"])
    wait_for(2, tmp_path / "log")
    process.send_signal(number)
    shown = process.end()
    assert process.returncode == 128 + number
    assert f"{message}; run the same command again" in shown
    assert (tmp_path / "out" / "operator=nl" / "metrics.json").exists()
    assert not (tmp_path / "out" / "table.md").exists()
    wait_for_trainings(tmp_path / "out")
    assert "still runs" not in caplog.text


def test_a_run_that_a_killed_command_left_is_waited_for_and_counted(
    tmp_path: Path, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    process = begin([*words, "operator=waits,nl"])
    wait_for(1, tmp_path / "log")
    process.send_signal(signal.SIGKILL)
    process.end()
    waiting = f"still runs in {tmp_path / 'out'}; waiting for it to end"

    def let_it_end() -> None:
        for _ in range(3000):
            if waiting in caplog.text:
                break
            time.sleep(0.02)
        (tmp_path / "log.go").touch()

    threading.Thread(target=let_it_end).start()
    data = ablate([*words, "operator=waits,nl"])
    assert waiting in caplog.text
    assert started(tmp_path / "log") == ["operator=waits", "operator=nl"]
    assert [row["metrics"]["choice/a/accuracy"]["mean"] for row in data["rows"]] == [70.0, 90.0]


def test_signals_that_are_ignored_in_the_background_stay_ignored(tmp_path: Path) -> None:
    ignored = (signal.SIGINT, signal.SIGHUP)  # nohup python -m clep.ablate … &
    process = begin([f"log={tmp_path / 'log'}", f"out={tmp_path / 'out'}", "operator=waits"], ignored)
    wait_for(1, tmp_path / "log")
    for number in ignored:
        process.send_signal(number)
    (tmp_path / "log.go").touch()
    process.end()
    assert process.returncode == 0
    assert (tmp_path / "out" / "table.md").exists()


def test_a_setting_that_does_not_exist_is_named_before_the_first_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["experiment=demo", "data.batchsize=3", "seed=0,1", f"out={tmp_path / 'out'}"]) == 1
    assert "there is no setting data.batchsize. Did you mean data.batch_size=" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_ablations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "python -m clep.ablate ablation=NAME" in shown
    assert "objectives" in shown
