from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from clep.config.compose import compose_config, set_path
from clep.errors import InputError


def test_a_folder_of_the_users_adds_choices(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("size: 7\n")
    assert compose_config("train", ["model=mine"], tmp_path).model.size == 7
    assert "size" not in compose_config("train", ["model=mlp"], tmp_path).model
    with pytest.raises(InputError, match="mine"):
        compose_config("train", ["model=mine"])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--config-dir .*nowhere"):
        compose_config("train", [], tmp_path / "nowhere")


@pytest.fixture
def application() -> Iterator[object]:
    """A stand-in for the state of a Hydra application that is running."""
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = object()  # type: ignore[assignment]
    yield GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = before  # of another instance than at first, since composing replaces it


def test_the_state_of_a_running_application_comes_back(application: object) -> None:
    assert compose_config("train", ["data.batch_size=3"]).data.batch_size == 3
    with pytest.raises(InputError, match=r"data\.batch_size"):
        compose_config("train", ["data.batchsize=3"])
    assert GlobalHydra.instance().hydra is application


@pytest.mark.parametrize("path", ["a b/it's.h5", "${oc.env:HOME}/x", "x=1,y", 'say "so"'])
def test_a_path_is_set_literally(path: str) -> None:
    cfg = OmegaConf.create({"bank": {"path": None}})
    set_path(cfg, "bank.path", path)
    assert cfg.bank.path == path
