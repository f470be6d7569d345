"""The clips of a video file: each frame that one of them shows is decoded once and resized once."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import UInt8
from torch import Tensor

from clep.errors import InputError
from clep.video.dense import dense_clips
from clep.video.key_frames import key_frame_clips
from clep.video.picture import SmallPictures
from clep.video.sampling import DenseWindows, KeyFrames, SampledClip, Segments
from clep.video.segments import segment_clips
from clep.video.timestamps import Timeline
from clep.video.video_file import VideoFile

if TYPE_CHECKING:
    import av


class VideoReader:
    """A video file from which clips can be sampled, once.

    Args:
        path: of the file.
        short_side_px: what the short side of a frame is resized to.
        left_eye: the video is stereo, halves side by side; keep the left one.
        threads: that decode; 0: as many as there are processors.

    Attributes:
        duration_s: end of the last frame, in seconds after the first one; 0 until the clips are exhausted.

    Raises:
        InputError: the file does not exist, is empty, not a video, or cut off before its index.
    """

    def __init__(self, path: str | Path, short_side_px: int, left_eye: bool = False, threads: int = 0) -> None:
        if short_side_px < 1:
            raise InputError(f"short_side_px={short_side_px} must be at least 1")
        self._file = VideoFile(path, threads)
        self._resize = SmallPictures(short_side_px, left_eye, self._file.pixel_aspect)
        self._timeline = Timeline(self._file.usual_interval_s, self._file.longest_s)
        self.duration_s = 0.0
        self.resized_frames = 0

    def clips(self, sampling: DenseWindows | Segments | KeyFrames, frames: int) -> Iterator[SampledClip]:
        """Yield the clip of each row in order of time, `frames` frames each, and close the file at the end.

        Memory holds the frames of one window at a time, besides those that the caller keeps.

        Raises:
            InputError: not one frame of the file can be decoded.
        """
        if frames < 1:
            raise InputError(f"a clip needs at least one frame, not {frames}")
        empty = True
        try:
            for clip in self._clips(sampling, frames):
                empty = False
                yield clip
        finally:
            self._file.close()
        if empty:
            raise InputError(
                f"{self._file.path}: no frame can be decoded ({self.corrupt_packets} corrupt packets): fetch it again"
            )
        self.duration_s = self._timeline.end_s

    def close(self) -> None:
        """Close the file, for who asks for no clips."""
        self._file.close()

    @property
    def decoded_frames(self) -> int:
        """Frames decoded so far."""
        return self._file.decoded_frames

    @property
    def corrupt_packets(self) -> int:
        """Packets so far that could not be decoded whole, and frames whose timestamp cannot be true."""
        return self._file.corrupt_packets + self._timeline.dropped

    def _clips(self, sampling: DenseWindows | Segments | KeyFrames, frames: int) -> Iterator[SampledClip]:
        if isinstance(sampling, KeyFrames):
            return key_frame_clips(self._file, self._timeline, sampling, frames, self._small)
        if isinstance(sampling, Segments):
            return segment_clips(self._file, self._timeline, sampling, frames, self._small)
        return dense_clips(self._file.frames(), self._timeline, sampling, frames, self._small)

    def _small(self, picture: "av.VideoFrame") -> UInt8[Tensor, "3 height width"]:
        self.resized_frames += 1
        return self._resize(picture)
