"""Video files of the search page: which file a video id is, frame strips, and small copies for the browser."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

import numpy as np
import torch

from clep.checksums import digest
from clep.errors import InputError
from clep.files import check_input
from clep.video.decoding import pyav
from clep.video.frames import frames_at
from clep.video.reader import VideoReader
from clep.video.sampling import KeyFrames
from clep.video.suffixes import VIDEO_SUFFIXES

DECODERS = 2
"""Videos that are decoded at the same time, however many pages are open."""
STRIPS_KEPT, CLIPS_KEPT = 2_000, 32
STRIP_FRAMES, STRIP_HEIGHT = 4, 108
CLIP_S, CLIP_HEIGHT, CLIP_RATE = 20.0, 288, 15
_PLAYED_CODECS = {"h264", "vp8", "vp9", "av1"}
_PLAYED_FORMATS = {"yuv420p", "yuvj420p"}
_MEDIA_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
_GREY = 128


@dataclass(frozen=True)
class Playable:
    """Whether browsers play a file as it is.

    Attributes:
        direct: they do.
        reason: why not; "" if they do.
        media_type: of the file.
    """

    direct: bool
    reason: str = ""
    media_type: str = "video/mp4"


class VideoFiles:
    """The videos in some folders, by id; nothing outside of these folders is ever opened.

    The id of a video is its path below the folder without the suffix, or its file name alone.

    Args:
        folders: searched recursively; links to folders are not followed.

    Raises:
        InputError: a folder does not exist.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = [Path(folder).expanduser().resolve() for folder in folders]
        self._files: dict[str, Path] = {}
        self._refused: dict[str, Path] = {}
        for folder in self.folders:
            if not folder.is_dir():
                raise InputError(f"videos={folder} is not a folder; name the folder of the video files")
            self._scan(folder)
        self._decoding = threading.BoundedSemaphore(DECODERS)
        self._strips = Kept[bytes](STRIPS_KEPT)
        self._clips = Kept[Path](CLIPS_KEPT, lambda path: path.unlink(missing_ok=True))
        self._playable = Kept[Playable](STRIPS_KEPT)
        self._scratch = TemporaryDirectory(prefix="clep-search-")

    def close(self) -> None:
        """Remove the small copies."""
        self._scratch.cleanup()

    def __contains__(self, uid: str) -> bool:
        return uid in self._files

    def missing(self, uid: str) -> str:
        """Return why a video cannot be shown; "" if it can."""
        try:
            self.path(uid)
        except InputError as error:
            return str(error)
        return ""

    def path(self, uid: str) -> Path:
        """Return the file of a video.

        Raises:
            InputError: there is none, or it has gone since the page was opened, or it is a link out of the folders.
        """
        if not self.folders:
            raise InputError("no folder of videos was given; add videos=DIR to see frames")
        if uid not in self._files:
            if uid in self._refused:
                raise InputError(
                    f"{self._refused[uid].name} is a link out of the named folders; name the folder it leads to as well"
                )
            raise InputError(f"no video file of this id in {', '.join(map(str, self.folders))}")
        path = self._files[uid]
        if not path.exists() or not self._is_inside(path):
            raise InputError(f"{path.name} is not there any more; it was moved or deleted")
        return check_input(path)

    def playable(self, uid: str) -> Playable:
        """Return whether browsers play the file of a video as it is.

        Raises:
            InputError: see `path`; or the file is no video.
        """
        path = self.path(uid)
        return self._playable.get(_key(path), lambda: _playable(path))

    def strip(self, uid: str, start_s: float, end_s: float, frames: int = STRIP_FRAMES) -> bytes:
        """Return a JPEG of frames of a moment side by side, evenly spaced; grey beyond the end of the video.

        Raises:
            InputError: see `path`; or the file cannot be decoded, or Pillow is not installed.
        """
        path = self.path(uid)

        def decode() -> bytes:
            seconds = (start_s + (np.arange(frames) + 0.5) * (end_s - start_s) / frames).tolist()
            with self._decoding:
                return _jpeg([_array(frame) for frame in frames_at(path, seconds, STRIP_HEIGHT)])

        return self._strips.get(_key(path, start_s, end_s, frames), decode)

    def clip(self, uid: str, start_s: float) -> Path:
        """Return a small H.264 copy, without sound, of `CLIP_S` seconds of a video; it stays until it is not used.

        Raises:
            InputError: see `path`; or the file cannot be decoded, or has no frame there.
        """
        path = self.path(uid)

        def transcode() -> Path:
            key = _key(path, start_s)
            with self._decoding:
                return _transcode(path, start_s, Path(self._scratch.name) / f"{key}.mp4")

        return self._clips.get(_key(path, start_s), transcode)

    def _scan(self, folder: Path) -> None:
        for home, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(home, name)
                if path.suffix.lower() not in VIDEO_SUFFIXES or name.startswith("."):
                    continue
                known = self._files if self._is_inside(path) else self._refused
                for uid in (path.relative_to(folder).with_suffix("").as_posix(), path.stem):
                    known.setdefault(uid, path)

    def _is_inside(self, path: Path) -> bool:
        found = path.resolve()
        return any(found.is_relative_to(folder) for folder in self.folders)


Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The latest results of something slow; two threads that want the same wait for one of them to make it.

    Args:
        most: results kept.
        dropped: called with a result that is not kept any longer.
    """

    def __init__(self, most: int, dropped: Callable[[Value], object] = lambda value: None) -> None:
        self._most, self._dropped = most, dropped
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """Return the result of this key, made now if it is not kept."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return self._values[key]
            try:
                value = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._values[key] = value
                while len(self._values) > self._most:
                    self._dropped(self._values.popitem(last=False)[1])
            return value


def _key(path: Path, *rest: float | int) -> str:
    status = path.stat()
    return digest(f"{path} {status.st_size} {status.st_mtime_ns} {rest}")


def _playable(path: Path) -> Playable:
    av = pyav()
    try:
        with av.open(str(path)) as file:
            streams = file.streams.video
            if not streams:
                raise InputError(f"{path.name} has no video stream")
            codec, pixels = streams[0].codec_context.name, streams[0].codec_context.pix_fmt
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read as a video ({error})") from error
    media_type = _MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        return Playable(False, f"browsers do not play {path.suffix} files")
    if codec.removeprefix("lib").split("_")[0].replace("dav1d", "av1") not in _PLAYED_CODECS:
        return Playable(False, f"browsers do not play {codec} video")
    if pixels not in _PLAYED_FORMATS:
        return Playable(False, f"browsers do not play {codec} video in the pixel format {pixels}")
    return Playable(True, "", media_type)


def _array(frame: torch.Tensor | None) -> np.ndarray | None:
    """Return the middle of a frame, 4 to 3, as `[height, width, 3]`; narrower ones get grey sides."""
    if frame is None:
        return None
    pixels = frame.permute(1, 2, 0).numpy()
    width = STRIP_HEIGHT * 4 // 3
    left = (pixels.shape[1] - width) // 2
    if left >= 0:
        return pixels[:, left : left + width]
    return np.pad(pixels, ((0, 0), (-left, width - pixels.shape[1] + left), (0, 0)), constant_values=_GREY)


def _jpeg(frames: Sequence[np.ndarray | None]) -> bytes:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError("frame strips need Pillow: pip install 'clep[video]'") from error
    shown = [frame for frame in frames if frame is not None]
    if not shown:
        raise InputError("the video ends before this moment")
    grey = np.full_like(shown[0], _GREY)
    buffer = BytesIO()
    strip = np.concatenate([grey if frame is None else frame for frame in frames], axis=1)
    Image.fromarray(strip).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _transcode(path: Path, start_s: float, target: Path) -> Path:
    av = pyav()
    wanted = tuple(start_s + step / CLIP_RATE for step in range(round(CLIP_S * CLIP_RATE)))
    reader = VideoReader(path, None, threads=1, height_px=CLIP_HEIGHT)
    count = 0
    # mp4 with its index in front, so that the browser can seek in it at once
    with av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=CLIP_RATE, options={"preset": "superfast", "crf": "26"})
        for clip in reader.clips(KeyFrames(wanted, 0.0, trusts_length=True), 1):
            pixels = clip.frames[0]
            height, width = (side // 2 * 2 for side in pixels.shape[1:])
            if count == 0:
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            picture = np.ascontiguousarray(pixels[:, :height, :width].permute(1, 2, 0).numpy())
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = count, Fraction(1, CLIP_RATE)
            file.mux(stream.encode(frame))
            count += 1
        file.mux(stream.encode())
    return target
