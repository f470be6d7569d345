from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from clep.video import DenseWindows, Segments, VideoReader
from clep.video.reader import SmallPictures
from tests.video.made_videos import dense_by_hand, on_screen

DATA = Path(__file__).parents[2].parent / "shared/data"
CLIPS = sorted((DATA / "videos").glob("*.*")) + sorted((DATA / "kinetics400/videos").glob("*.mp4"))
pytestmark = pytest.mark.skipif(not CLIPS, reason=f"no real clips in {DATA}")


def every_frame(path: Path) -> tuple[list[Fraction], list[torch.Tensor]]:
    """Seconds after the first frame, and each frame made small."""
    seconds, frames = [], []
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        small = SmallPictures(64, False, float(stream.sample_aspect_ratio or 1))
        for frame in file.decode(stream):
            stamp = frame.dts if path.suffix == ".avi" else frame.pts
            seconds.append(seconds[-1] + 1 / stream.average_rate if stamp is None else stamp * stream.time_base)
            frames.append(small(frame))
    return [second - seconds[0] for second in seconds], frames


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.name)
def test_rows_of_real_clips(path: Path) -> None:
    times, frames = every_frame(path)
    reader = VideoReader(path, 64)
    clips = list(reader.clips(DenseWindows(), 8))
    assert reader.corrupt_packets == 0
    assert [list(clip.frame_indices) for clip in clips] == dense_by_hand(times, reader.duration_s, 32, 16, 30.0, 8)
    for clip in clips:
        for frame, number in zip(clip.frames, clip.frame_indices, strict=True):
            assert torch.equal(frame, frames[number])
    clips = list(VideoReader(path, 64).clips(Segments(4), 8))
    part_s = clips[1].start_s
    assert 4 * part_s == pytest.approx(reader.duration_s, abs=0.04)
    for clip in clips:
        for piece, frame in enumerate(clip.frames):
            assert torch.equal(frame, frames[on_screen(times, clip.start_s + (piece + 0.5) * part_s / 8)])
