"""`python -m clep.evaluate evaluator=ava`: detections from a file, no model."""

import logging
from pathlib import Path

import pytest

from clep.evaluate import main
from clep.files import read_json
from clep.metrics.ava import AVA_60
from tests.metrics.ava_reference import random_world, slow_ava, write_rows


@pytest.fixture
def files(tmp_path: Path) -> Path:
    truth, found = random_world(seed=4, videos=3)
    write_rows(tmp_path / "gt.csv", truth)
    write_rows(tmp_path / "det.csv", found)
    write_rows(tmp_path / "excluded.csv", [("video1", "0900")])
    (tmp_path / "map.txt").write_text("1: bend\n3: dance\n4: fall\n")
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    return ["evaluator=ava", f"predictions={folder}/det.csv", f"groundtruth={folder}/gt.csv", *more]


def test_the_command_prints_a_table_and_writes_the_figures(
    files: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    main(words(files, f"label_map={files}/map.txt", f"excluded={files}/excluded.csv", f"out={files}/out/ava.json"))
    mean, per_class = slow_ava(*random_world(seed=4, videos=3), actions=(1, 3, 4), excluded={("video1", 900)})
    metrics = read_json(files / "out" / "ava.json")
    assert metrics == pytest.approx(
        {"ava/mAP": mean, "ava/AP/1": per_class[1], "ava/AP/3": per_class[3], "ava/AP/4": None}
    )
    shown = capsys.readouterr().out
    assert f"{mean:.2f}" in shown
    assert "dance" in shown
    assert "no ground truth" in shown
    assert "ground-truth boxes in excluded frames" in caplog.text
    assert read_json(files / "out" / "coverage.json")["ava"]["detections in excluded frames"] > 0


def test_without_a_label_map_the_sixty_actions_count(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words(files, f"out={files}/out"))
    metrics = read_json(files / "out" / "metrics.json")
    assert set(metrics) == {"ava/mAP", *(f"ava/AP/{action}" for action in AVA_60)}
    before = set(files.rglob("*.json"))
    main(words(files))
    assert set(files.rglob("*.json")) == before
    assert "mean" in capsys.readouterr().out


def test_other_names_of_videos_are_warned_of(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    det = files / "det.csv"
    det.write_text(det.read_text().replace("video", "film"))
    main(words(files))
    assert "gt.csv does not list; do the video ids agree?" in caplog.text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["evaluator=ava"], "predictions=VALUE is needed: csv of lines video,second,x1"),
        (["evaluator=ava", "predictions={at}/det.csv"], "groundtruth=VALUE is needed"),
        (["{all}", "exclude={at}/excluded.csv"], "evaluator=ava has no option 'exclude'. Did you mean 'excluded'?"),
        (["evaluator=ava", "prediction={at}/det.csv"], "Did you mean 'predictions'?"),
        (
            ["{all}", "paths.data=x"],
            "no option 'paths.data'. It is a setting of the training",
        ),
        (["{all}", "label_map="], "label_map is given without a value"),
        (["{all}", "predictions=x"], "predictions is given twice"),
        (["{all}", "excluded"], "'excluded' is not key=value"),
        (["{all}", "unannotated=count"], "unannotated=count is unknown. Did you mean 'counted'?"),
        (["{all}", "ckpt=runs/x"], "evaluator=ava measures the detections in predictions=CSV; leave ckpt out"),
        (["{all}", "label_map={at}/nowhere.pbtxt"], "nowhere.pbtxt does not exist"),
        (["{all}", "excluded={at}/det.csv"], "det.csv, line 1 has 8 columns; expected 2: video,second"),
        (["evaluator=av"], "evaluator=av is unknown. Did you mean 'ava'"),
    ],
)
def test_wrong_input_gives_one_line_without_a_traceback(
    files: Path, caplog: pytest.LogCaptureFixture, more: list[str], message: str
) -> None:
    arguments = [word for part in more for word in (words(files) if part == "{all}" else [part.format(at=files)])]
    assert main(arguments) == 1
    assert message in caplog.text
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_help_tells_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(key in shown for key in ("evaluator=ava", "predictions=CSV", "groundtruth=CSV", "label_map", "excluded"))
