from pathlib import Path

import numpy as np
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.bank.contents import read_contents
from tests.bank.banks import edited, random_videos, write


def test_tables_are_joined_over_files(tmp_path: Path) -> None:
    for name, seed in (("a.h5", 1), ("b.h5", 2)):
        write(tmp_path / name, random_videos(3, seed), source=name)
    contents = read_contents(tmp_path, "disk", None, None)
    assert contents.videos == ["v1_0", "v1_1", "v1_2", "v2_0", "v2_1", "v2_2"]
    assert contents.position["v2_1"] == 4
    assert contents.source == "a.h5; b.h5"
    assert contents.first_row[-1] == contents.rows.n_rows == contents.n_rows.sum()
    assert contents.first_row.diff().equal(contents.n_rows)
    assert torch.isnan(contents.duration_s).all()


def test_chunked_seconds_are_read(tmp_path: Path) -> None:
    seconds = np.array([1.0, 2.0, 2.0])
    with BankWriter(tmp_path / "b.h5", 2, Clock.irregular(1.0)) as writer:
        writer.add("v", np.eye(3, 2), seconds=seconds)
    with edited(tmp_path / "b.h5") as file:
        del file["row/second"]
        file.create_dataset("row/second", data=seconds, chunks=(2,))
    assert FeatureBank.open(tmp_path / "b.h5").window([0], [1.9], [2.6])[0].tolist() == [1]
