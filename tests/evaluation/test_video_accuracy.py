"""Videos that cannot be decoded, and a model that has diverged, are told apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clep.data import LabelledVideoSource
from clep.errors import InputError
from clep.evaluation import VideoAccuracy, video_accuracy
from clep.models import VideoClassifier
from tests.colour_films import tiny_timesformer, write_films


def measured(folder: Path, broken: tuple[int, ...]) -> tuple[VideoAccuracy, VideoClassifier]:
    videos = write_films(folder / "films", 4, broken=broken)
    config = {"encoder": tiny_timesformer(folder / "t"), "classes": ["0", "1", "2"]}
    source = LabelledVideoSource(videos, val=videos, on_error="skip")
    return VideoAccuracy(source, crops="centre", batch_size=2, num_workers=0), VideoClassifier.from_config(config)


@pytest.mark.parametrize(("rows", "count"), [([0], 2), ([0, 1], 3)])
def test_nan_for_videos_that_could_be_read_is_an_error(
    tmp_path: Path, rows: list[int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy, model = measured(tmp_path, broken=(1,))
    forward = model.forward

    def diverged(batch: dict[str, Any]) -> Tensor:
        return forward(batch).index_fill(0, torch.tensor(rows), torch.nan)

    monkeypatch.setattr(model, "forward", diverged)
    with pytest.raises(InputError, match=rf"VideoAccuracy: {count} of 3 videos .* NaN"):
        accuracy.run(model)
    assert accuracy.coverage["decoded"] == 3


def test_nan_for_videos_that_could_not_be_read_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy, model = measured(tmp_path, broken=(1,))
    expected, forward = accuracy.run(model), model.forward

    def unreadable(batch: dict[str, Any]) -> Tensor:
        black = (batch["pixels"] == 0).flatten(1).all(1)
        return forward(batch).masked_fill(black[:, None], torch.nan)

    monkeypatch.setattr(model, "forward", unreadable)
    assert accuracy.run(model) == expected


@pytest.mark.parametrize(("share", "reason"), [(None, "film0"), ([], r"film0\.mp4 and the others \(another rank")])
def test_not_one_video_could_be_decoded(
    tmp_path: Path, share: list[int] | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy, model = measured(tmp_path, broken=(0, 1, 2, 3))
    if share is not None:  # of a rank that has fewer videos than there are ranks
        monkeypatch.setattr(video_accuracy, "my_share", lambda count: torch.tensor(share))
        monkeypatch.setattr(video_accuracy, "gather_shares", lambda rows, count: rows.new_zeros(count, rows.shape[1]))
    with pytest.raises(InputError, match=rf"none of the 4 held-out videos could be decoded: .*{reason}"):
        accuracy.run(model)
