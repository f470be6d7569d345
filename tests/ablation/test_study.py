"""What is seen before the first run: whether the real configs know the settings of every row."""

from pathlib import Path

import pytest

from clep.ablation import read_grid
from clep.ablation.study import _refuse_what_cannot_be_composed
from clep.errors import InputError


def test_a_setting_that_all_rows_know_passes() -> None:
    words = ["experiment=demo", "model=temporal,long_term_temporal", "model.video.gate=0.1", "seed=0,1"]
    _refuse_what_cannot_be_composed(read_grid(words))


def test_a_setting_that_one_row_lacks_is_told_with_the_row(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{overrides: [experiment=demo], variants: {usual: [], smaller: [data.batchsize=3]}}")
    message = r"smaller: there is no setting data\.batchsize\. Did you mean 'batch_size'"
    with pytest.raises(InputError, match=message):
        _refuse_what_cannot_be_composed(read_grid([f"ablation='{file}'", "seed=0,1"]))
    with pytest.raises(InputError, match=r"model=nothing_like_it: .*nothing_like_it"):
        _refuse_what_cannot_be_composed(read_grid(["experiment=demo", "model=mlp,nothing_like_it"]))
