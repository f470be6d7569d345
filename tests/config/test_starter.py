"""`clep-train new FOLDER` writes a project whose command trains and whose test passes."""

import importlib
import sys
from pathlib import Path

import pytest

from clep.config.compose import compose_config
from clep.config.starter import write_starter
from clep.errors import InputError
from clep.train import main
from clep.training.settings import checked_settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["clep-train", "new", "my_project"])
    main()
    printed = capsys.readouterr().out
    assert "clep-train --config-dir conf experiment=my_project" in printed
    monkeypatch.chdir(tmp_path / "my_project")
    monkeypatch.syspath_prepend(tmp_path / "my_project")
    return tmp_path / "my_project"


def test_it_has_a_config_a_part_and_a_test_that_passes(project: Path) -> None:
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert files == {"conf/experiment/my_project.yaml", "my_project_parts.py", "test_my_project.py"}
    tests = importlib.import_module("test_my_project")
    names = [name for name in vars(tests) if name.startswith("test_")]
    assert len(names) == 2
    for name in names:
        getattr(tests, name)()


def test_its_config_composes_with_its_part(project: Path) -> None:
    settings = checked_settings(compose_config("train", ["experiment=my_project", "paths.run=x"], project / "conf"))
    assert settings["loss"] == {"_target_": "my_project_parts.SmoothedClipLoss", "smoothing": 0.1}
    assert settings["name"] == "my_project"


@pytest.mark.slow
def test_its_command_trains_with_its_part(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Printed at the end: what its evaluation needs."""
    from tests.test_train import QUIET, SHRUNK

    small = [*SHRUNK, *QUIET, "trainer.max_epochs=1", "~evaluator.probe", "logger=none"]
    monkeypatch.setenv("CLEP_RUN_ID", "first")
    monkeypatch.setattr(sys, "argv", ["clep-train", "--config-dir", "conf", "experiment=my_project", *small])
    with caplog.at_level("INFO"):
        main()
    run = project / "runs" / "my_project" / "first"
    assert (run / "metrics.json").is_file()
    assert "SmoothedClipLoss" in (run / "config.yaml").read_text()
    assert f"ckpt={run} allow=[my_project_parts] --config-dir {project / 'conf'}" in caplog.text


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.tex").touch()
    with pytest.raises(InputError, match="it exists already"):
        write_starter(tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="starts with a letter"):
        write_starter(tmp_path / "3d")
