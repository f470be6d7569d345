"""`python train.py --help`, and presets that are chosen beside an experiment."""

import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from clep.config.compose import compose_config
from clep.config.folder import config_folder
from clep.config.overrides import split_config_dir, split_config_dirs
from clep.errors import InputError
from clep.train import main


def test_help_lists_each_group_with_its_choices_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "of_mine.yaml").write_text("_target_: mine.Loss\n")
    monkeypatch.setattr(sys, "argv", ["train.py", "--help", "--config-dir", str(tmp_path)])
    main()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    defaults = yaml.safe_load((config_folder() / "train.yaml").read_text())["defaults"]
    groups = {group: default for entry in defaults if isinstance(entry, dict) for group, default in entry.items()}
    assert len(groups) > 15
    for group, default in groups.items():
        names = lines[group].rpartition(": ")[2].split(" | ")
        assert set(names) == {path.stem for path in (config_folder() / group).glob("*.yaml")} | (
            {"of_mine"} if group == "loss" else set()
        )
        assert default in (None, names[0])
    assert "text_encoder" in lines
    assert set(lines["operator"].rpartition(": ")[2].split(" | ")) == {"avg", "max", "nl", "none"}
    assert {"efficientnet_lite0", "lavila"} <= set(lines["encoder"].rpartition(": ")[2].split(" | "))
    assert "missing_evaluators" in lines  # the longest name keeps a blank before its meaning


def test_the_search_space_names_settings_that_exist() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    cfg = compose_config("train", ["experiment=ego4d_clip", "hparams_search=optuna", "paths.run=x"])
    assert cfg.optimized_metric == cfg.callbacks.checkpoint.monitor
    searched = yaml.safe_load((config_folder() / "hparams_search" / "optuna.yaml").read_text())["hydra"]["sweeper"]
    missing = object()
    assert all(OmegaConf.select(cfg, key, default=missing) is not missing for key in searched["params"])


@pytest.mark.parametrize("preset", ["overfit", "limit", "profile"])
def test_a_debug_preset_wins_over_the_experiment(preset: str) -> None:
    cfg = compose_config("train", ["experiment=ego4d_clip", f"debug={preset}", "paths.run=x"])
    own = yaml.safe_load((config_folder() / "debug" / f"{preset}.yaml").read_text())["trainer"]
    assert cfg.trainer.max_epochs == own["max_epochs"] != 15


@pytest.mark.parametrize(
    "words",
    [["--config-dir", "my_conf"], ["-cd", "my_conf"], ["--config-dir=my_conf"], ["hydra.searchpath=[file://my_conf]"]],
)
def test_the_config_folder_is_given_in_any_of_hydras_ways(words: list[str]) -> None:
    assert split_config_dir(["a=1", *words, "b=2"]) == (["a=1", "b=2"], "my_conf")


def test_several_config_folders() -> None:
    words = ["hydra.searchpath=['file://a','file://b',pkg://c]"]
    assert split_config_dirs(words) == ([], ["a", "b"])
    with pytest.raises(InputError, match="one config folder can be given, not a and b"):
        split_config_dir(words)
    with pytest.raises(InputError, match="--config-dir DIR"):
        split_config_dir(["--config-dir"])
