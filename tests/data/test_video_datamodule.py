"""Training batches of labelled videos: what is decoded, counted and refused."""

from pathlib import Path

import pytest

from clep.data import LabelledVideoDataModule, LabelledVideoSource
from clep.errors import InputError
from clep.video import ClipSpec
from tests.colour_films import write_films

SPEC = ClipSpec(4, 16, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.mark.parametrize("on_error", ["error", "skip"])
def test_unreadable_videos_are_refused_or_counted(
    tmp_path: Path, on_error: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = LabelledVideoSource(write_films(tmp_path, 6, broken=[1]), on_error=on_error, val=tmp_path / "train.csv")
    data = LabelledVideoDataModule(source, batch_size=6, num_workers=0)
    data.fit_to(SPEC)
    data.setup()
    (batch,) = data.train_dataloader()
    if on_error == "error":
        with pytest.raises(InputError, match=r"film1\.mp4.*data\.source\.on_error=skip skips such"):
            data.on_before_batch_transfer(batch, 0)
        return
    for _ in range(2):
        given = data.on_before_batch_transfer(dict(batch), 0)
    assert sorted(given) == ["moment", "pixels", "target"]
    assert data.report["unreadable videos"] == 1
    assert caplog.text.count("skipped: ") == 1


def test_no_decodable_training_video_is_an_error(tmp_path: Path) -> None:
    videos = write_films(tmp_path, 4, broken=range(4))
    data = LabelledVideoDataModule(
        LabelledVideoSource(videos, on_error="skip", val=videos), batch_size=2, num_workers=0, shuffle=False
    )
    data.fit_to(SPEC)
    data.setup()
    first, second = data.train_dataloader()
    assert data.on_before_batch_transfer(first, 0)["target"].tolist() == [-1, -1]
    with pytest.raises(InputError, match=r"none of the 4 training videos could be decoded: .*film0\.mp4"):
        data.on_before_batch_transfer(second, 0)


def test_invalid_batch_options_are_refused(tmp_path: Path) -> None:
    source = LabelledVideoSource(tmp_path / "train.csv")
    with pytest.raises(InputError, match=r"batch_size=0"):
        LabelledVideoDataModule(source, batch_size=0)
    with pytest.raises(InputError, match=r"num_workers=-1"):
        LabelledVideoDataModule(source, num_workers=-1)


def test_fewer_videos_than_ranks_need(tmp_path: Path) -> None:
    write_films(tmp_path, 3)
    data = LabelledVideoDataModule(
        LabelledVideoSource(tmp_path / "train.csv", val=tmp_path / "train.csv"), batch_size=4
    )
    with pytest.raises(InputError, match=r"data\.batch_size=4 x 1 rank\(s\), but there are only 3"):
        data.training_sampler()
