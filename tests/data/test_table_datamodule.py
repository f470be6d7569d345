"""A DataModule of a user's table trains exactly as a plain one; its other settings are for the jobs."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml

from clep.config.folder import config_folder
from clep.data import MomentDataModule, TableDataModule
from tests.tiny_source import tiny_source


def test_batches_equal_those_of_a_plain_datamodule(tmp_path: Path) -> None:
    options = {"batch_size": 16, "seed": 3}
    plain = MomentDataModule({"mine": tiny_source(tmp_path)}, **options)
    table = TableDataModule(
        {"mine": tiny_source(tmp_path)},
        table="pairs.csv",
        features="features",
        features_per_second=2,
        row_seconds=0.5,
        columns={"text": "caption"},
        **options,
    )
    batches = []
    for data in (plain, table):
        data.setup()
        batches.append(next(iter(data.train_dataloader())))
    assert plain.dims == table.dims
    assert batches[0].keys() == batches[1].keys()
    for name, values in batches[0].items():
        torch.testing.assert_close(values, batches[1][name], rtol=0, atol=0)


def test_an_option_that_no_datamodule_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="batch_sise"):
        TableDataModule({"mine": tiny_source(tmp_path)}, table="pairs.csv", batch_sise=16)


def test_the_config_sets_each_of_its_settings_and_no_other() -> None:
    """`prepare=table` reads them from the config, which therefore has them all."""
    config = yaml.safe_load((config_folder() / "data" / "table.yaml").read_text())
    own = set(inspect.signature(TableDataModule).parameters) - {"options"}
    inherited = set(inspect.signature(MomentDataModule).parameters)
    given = {name for name in config if not name.startswith("_") and name != "defaults"}
    assert own <= given
    assert given <= own | inherited
