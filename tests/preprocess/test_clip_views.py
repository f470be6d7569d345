"""Views of clips: which frames and crops each row shows, clips as files and as spans, what is missing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.preprocess.clip_views import ClipViews, view_starts
from clep.video import ClipSpec, VideoEncoder
from tests.extraction.test_spans import film
from tests.video.made_videos import number_of

FRAMES = 4


class FramesAndCrop(VideoEncoder):
    """A row holds the numbers of the view's frames, -1 for a black one, and the number of the crop."""

    name, dim, own_transform = "frames-and-crop", FRAMES + 1, True

    def __init__(self) -> None:
        super().__init__()
        self.clip = ClipSpec(FRAMES, 2, 2, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def transform(self, frame: Tensor, crops: str) -> Tensor:
        number = float(number_of(frame)) if frame.float().mean() > 10 else -1.0
        return torch.stack(
            [torch.tensor([number, crop]).expand(3, 2, 2) for crop in range({"centre": 1, "three": 3}[crops])]
        )

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.cat([pixels[:, :, 0, 0, 0], pixels[:, 0, 0, 0, 1:]], dim=1)


def run(folder: Path, table: str, **options: object) -> FeatureBank:
    (folder / "clips.csv").write_text(table)
    extraction = {"encoder": {"_target_": f"{__name__}.FramesAndCrop"}, "device": "cpu", "n_shards": 1, **options}
    job = ClipViews(
        table=folder / "clips.csv",
        videos=folder / "videos",
        output=folder / "views.h5",
        dtype="float32",
        extraction=extraction,
    )
    job.run()
    return FeatureBank.open(folder / "views.h5")


@pytest.mark.parametrize(
    ("frames", "length", "views", "starts"),
    [
        (72, 32, 10, [0, 4, 8, 13, 17, 22, 26, 31, 35, 40]),  # multiples of 40 / 9, truncated
        (32, 32, 10, [0] * 10),
        (31, 32, 10, [0]),
        (60, 8, 1, [0]),
    ],
)
def test_views_start_at_equal_distances(frames: int, length: int, views: int, starts: list[int]) -> None:
    assert view_starts(frames, length, views).tolist() == starts


def test_rows_are_the_views_in_time_and_their_crops_of_clips_in_files_of_their_own(tmp_path: Path) -> None:
    """EGTEA's layout: each clip lies in a folder that is called by its video."""
    film(tmp_path / "videos" / "v" / "v-1.mp4", range(20, 60))
    film(tmp_path / "videos" / "v" / "v-2.mp4", range(5))
    bank = run(tmp_path, "clip,video,start,end\nv-1,v,3,7\nv-2,v,0,0.5\n", views_in_time=3, clip_batch=4)
    views = [[20 + start + 2 * frame for frame in range(FRAMES)] for start in (0, 16, 32)]  # 8 of 40 frames each
    assert bank.video_rows("v-1").tolist() == [[*view, crop] for view in views for crop in range(3)]
    assert bank.video_seconds("v-1").tolist() == pytest.approx(np.repeat([0, 1.6, 3.2], 3).tolist())
    # Shorter than a view: every second of its 5 frames, then black.
    assert bank.video_rows("v-2").tolist() == [[0, 2, 4, -1, crop] for crop in range(3)]


def test_a_clip_without_a_file_is_a_span_of_its_video(tmp_path: Path) -> None:
    film(tmp_path / "videos" / "v.mp4", range(60))
    table = "clip,video,start,end\na,v,1.0,3.0\nb,v,5.5,9.0\nlost,w,0,1\nlate,v,30,31\n"
    bank = run(tmp_path, table, views_in_time=2, crops="centre", frame_stride=1)
    assert bank.videos == ["a", "b"]
    assert bank.video_rows("a").tolist() == [[10, 11, 12, 13, 0], [26, 27, 28, 29, 0]]
    assert bank.video_rows("b").tolist() == [[55, 56, 57, 58, 0], [56, 57, 58, 59, 0]]  # ends with the video
    coverage = ClipViews(
        table=tmp_path / "clips.csv",
        videos=tmp_path / "videos",
        output=tmp_path / "views.h5",
        dtype="float32",
        extraction={
            "encoder": {"_target_": f"{__name__}.FramesAndCrop"},
            **{"device": "cpu", "n_shards": 1, "views_in_time": 2, "crops": "centre", "frame_stride": 1},
        },
    ).run()
    assert coverage["up_to_date"]
    assert coverage["lists"]["skipped"] == {"lost": "no video w or lost in videos"}
    assert "lasts 6.0 s, and the clip starts at 30.0 s" in coverage["lists"]["failed"]["late"]


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    with pytest.raises(InputError, match="has none of the 1 clips of .*'a': no video a in videos"):
        run(tmp_path, "clip\na\n")
    film(tmp_path / "videos" / "a.mp4", range(3))
    with pytest.raises(InputError, match="views_in_time=0 must be at least 1"):
        run(tmp_path, "clip\na\n", views_in_time=0)
