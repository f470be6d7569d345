"""Every file of conf/ablation/ is an ablation whose cells compose and fit what they are meant for."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from clep.ablation import Cell, read_grid
from clep.config.check import check_config
from clep.config.folder import config_folder
from clep.config.targets import ANYTHING
from clep.training.settings import fill_in_dims
from tests.composing import compose_train

FILES = sorted((config_folder() / "ablation").glob("*.yaml"))
FIRST_SEEDS = {
    file.stem: [cell for cell in read_grid([f"ablation={file.stem}"]).cells() if cell.seed == "0"] for file in FILES
}


def test_there_are_ablation_files() -> None:
    assert {"long_term", "objectives"} <= set(FIRST_SEEDS)
    for file in FILES:
        assert f"python -m clep.ablate ablation={file.stem}" in file.read_text().splitlines()[0]


@pytest.mark.parametrize("cell", [cell for cells in FIRST_SEEDS.values() for cell in cells], ids=lambda cell: cell.name)
def test_each_cell_composes_and_fits(tmp_path: Path, cell: Cell) -> None:
    cfg = compose_train(*cell.overrides, f"paths.run={tmp_path}")
    values = OmegaConf.to_container(cfg, resolve=True)
    check_config(values | {"model": fill_in_dims(values["model"], 1, 1), "operator": None}, targets=ANYTHING)
    assert values["seed"] == values["synthetic"]["seed"] == 0
    assert "seed-0" in values["paths"]["data"]


def test_rows_differ_and_are_of_one_seed_each() -> None:
    for name, cells in FIRST_SEEDS.items():
        assert len({cell.overrides for cell in cells}) == len(cells) > 3, name
        assert len({cell.name for cell in cells}) == len(cells)
