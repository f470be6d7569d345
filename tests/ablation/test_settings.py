"""The settings of every row are composed with the real configs before the first run."""

from pathlib import Path

import pytest

from clep.ablate import check_settings
from clep.ablation import read_grid
from clep.errors import InputError


def test_settings_that_every_row_has_pass() -> None:
    words = ["experiment=demo", "model=temporal,long_term_temporal", "model.video.gate=0.1", "seed=0,1"]
    check_settings(read_grid(words))


def test_a_setting_that_a_row_lacks_is_refused_with_the_row(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{overrides: [experiment=demo], variants: {usual: [], smaller: [data.batchsize=3]}}")
    message = r"smaller: there is no setting data\.batchsize\. Did you mean data\.batch_size="
    with pytest.raises(InputError, match=message):
        check_settings(read_grid([f"ablation='{file}'", "seed=0,1"]))
    with pytest.raises(InputError, match=r"model=nothing_like_it: .*nothing_like_it"):
        check_settings(read_grid(["experiment=demo", "model=mlp,nothing_like_it"]))
