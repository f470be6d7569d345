"""Frames of a video by their index: from one file, from the chunks it was cut into, or from a folder of frames."""

import logging
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Shaped
from torch import Tensor

from clep.errors import InputError
from clep.video.clips import walk_through
from clep.video.decoding import VideoFile
from clep.video.images import read_image
from clep.video.reader import SmallPictures
from clep.video.spans import chunk_of
from clep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True)
class FrameOptions:
    """How frames are read.

    Attributes:
        short_side_px: short side after resizing; None: full size.
        prepare: applied to each frame after that.
        fps: frames per second that indices count in; None: those of the file.
        chunk_s: length in seconds of the chunks that videos were cut into (Ego4D: 15, 300 or 600).
        threads: of the decoder; 0: as many as there are processors.
        t0: where second 0 of a file is; see `VideoReader`.
    """

    short_side_px: int | None
    prepare: Callable[[Tensor], Tensor]
    fps: float | int | None = None
    chunk_s: int | None = None
    threads: int = 0
    t0: str = "container"


class FilmFrames:
    """Frames of a video file; index i is the frame on screen in the middle of `[i / fps, (i + 1) / fps)`.

    Indices after the end give the last frame.

    Args:
        path: the file.
        options: how frames are read.

    Attributes:
        fps: frames per second that indices count in.
        duration_s: known once frames are read.

    Raises:
        InputError: the file does not exist or is no video.
    """

    first = 0
    duration_s: float | None = None

    def __init__(self, path: str | Path, options: FrameOptions) -> None:
        self._file = VideoFile(path, options.threads)
        self._options = options
        self._resize = SmallPictures(options.short_side_px, False, self._file.pixel_aspect)
        self.fps = float(options.fps or 1 / self._file.usual_interval_s)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Shaped[Tensor, "*crops 3 height width"]]]:
        """Yield the frames of ascending indices, decoding forward and seeking where that is faster.

        Raises:
            InputError: no frame of the file can be decoded.
        """
        file, timeline = self._file, self._file.timeline(self._options.t0)
        try:
            begun = walk_through(file, timeline, (indices[-1] + 1) / self.fps)
            if begun is None:
                raise InputError(f"{file.path}: no frame can be decoded: fetch it again")
            self.duration_s = begun[1]
            last, pixels = None, None
            for index in indices:
                frame = begun[0].at((index + 0.5) / self.fps)
                assert frame is not None
                if pixels is None or frame is not last:
                    last, pixels = frame, self._options.prepare(self._resize(frame.picture))
                yield index, pixels
        finally:
            file.close()

    def count_frames(self) -> int:
        """Return the number of frames from the first to the end of the film, at least 1; reads all packets.

        Raises:
            InputError: no frame of the file can be decoded.
        """
        try:
            begun = walk_through(self._file, self._file.timeline(self._options.t0))
            if begun is None:
                raise InputError(f"{self._file.path}: no frame can be decoded: fetch it again")
            return max(round(begun[1] * self.fps), 1)
        finally:
            self._file.close()


class ChunkedFrames:
    """Frames of a video that was cut into files of equal length, counted as one video.

    Files are named by the second at which they start (`0.mp4`, `300.mp4`: LaViLa, AVION) or in order (`0.mp4`, `1.mp4`:
    EgoVLP). After the last chunk its last frame repeats.

    Args:
        folder: of the chunks.
        options: how frames are read; `chunk_s` is needed.

    Raises:
        InputError: there is no chunk, a file is not named by a number, or `chunk_s` is missing.
    """

    first = 0
    duration_s: float | None = None

    def __init__(self, folder: str | Path, options: FrameOptions) -> None:
        if options.chunk_s is None:
            raise InputError(f"{folder} holds a video in chunks: give their length in seconds, e.g. chunk_s=300")
        files = [path for path in Path(folder).iterdir() if path.suffix.lower() in VIDEO_SUFFIXES]
        wrong = [path for path in files if not path.stem.isdigit()]
        if wrong or not files:
            what = f"{wrong[0].name} is not named by a number" if wrong else "there is no video"
            raise InputError(f"{folder}: {what}; chunks are called 0.mp4, {options.chunk_s}.mp4, … or 0.mp4, 1.mp4, …")
        numbered = {int(path.stem): path for path in files}
        self._options, self._folder = options, folder
        by_second = all(number % options.chunk_s == 0 for number in numbered)
        self._chunks = numbered if by_second else {n * options.chunk_s: path for n, path in numbered.items()}
        self._opened: tuple[int, FilmFrames] | None = None
        self.fps = float(options.fps or FilmFrames(self._chunks[min(self._chunks)], options).fps)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Shaped[Tensor, "*crops 3 height width"]]]:
        """Yield the frames of ascending indices; each chunk is opened once.

        Raises:
            InputError: a chunk is missing or cannot be decoded.
        """
        assert self._options.chunk_s is not None
        by_chunk: dict[int, dict[int, int]] = {}
        last = max(self._chunks)
        for index in indices:
            start_s = min(chunk_of(index, self.fps, self._options.chunk_s)[0], last)
            by_chunk.setdefault(start_s, {})[index - round(start_s * self.fps)] = index
        for start_s, wanted in by_chunk.items():
            if start_s not in self._chunks:
                raise InputError(f"{self._folder} lacks the chunk that starts at second {start_s}")
            film = FilmFrames(self._chunks[start_s], self._options)
            for inside, pixels in film.read(sorted(wanted)):
                if start_s == last and film.duration_s is not None:
                    self.duration_s = start_s + film.duration_s
                yield wanted[inside], pixels


class ImageFrames:
    """Frames of a video as images in a folder, named by their number: `frame_0000000001.jpg` (EPIC-KITCHENS).

    Index 0 is image 1, or image 0 where there is one. A missing image is replaced by the one before it.

    Args:
        folder: of the images.
        options: how frames are read; `fps` is needed where spans are in seconds.

    Attributes:
        first: number of the image of index 0.
        duration_s: of all images; None without `fps`.

    Raises:
        InputError: the folder holds no image that is named by a number, or two of one number.
    """

    def __init__(self, folder: str | Path, options: FrameOptions) -> None:
        self._options = options
        found = ((path, _NUMBERED.fullmatch(path.stem)) for path in Path(folder).iterdir())
        self._images: dict[int, Path] = {}
        for path, match in found:
            if match and path.suffix.lower() in IMAGE_SUFFIXES:
                other = self._images.setdefault(int(match[2]), path)
                if other is not path:
                    names = " and ".join(sorted((other.name, path.name)))
                    raise InputError(f"{folder} holds two images of one number, {names}; keep one of the series")
        if not self._images:
            raise InputError(f"{folder} holds no image that is named by its number, such as frame_0000000001.jpg")
        self._numbers = sorted(self._images)
        self.first = 0 if self._numbers[0] == 0 else 1
        missing = self._numbers[-1] + 1 - self.first - len(self._numbers)
        if missing:
            logger.warning(
                "%s: %d of %d images are missing; each is replaced by the one before it",
                folder,
                missing,
                missing + len(self._numbers),
            )
        self.fps = float(options.fps) if options.fps else None
        self.duration_s = (self._numbers[-1] + 1 - self.first) / self.fps if self.fps else None

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Shaped[Tensor, "*crops 3 height width"]]]:
        """Yield the frames of ascending indices.

        Raises:
            InputError: an image cannot be read.
        """
        shown, pixels = None, None
        for index in indices:
            at = max(bisect_right(self._numbers, index + self.first) - 1, 0)
            if pixels is None or at != shown:
                path = self._images[self._numbers[at]]
                shown, pixels = at, self._options.prepare(read_image(path, self._options.short_side_px))
            yield index, pixels


def open_frames(path: str | Path, options: FrameOptions) -> FilmFrames | ChunkedFrames | ImageFrames:
    """Open a video file, a folder of chunks or a folder of images.

    Raises:
        InputError: there is none of these.
    """
    path = Path(path)
    if not path.is_dir():
        return FilmFrames(path, options)
    if any(file.suffix.lower() in VIDEO_SUFFIXES for file in path.iterdir()):
        return ChunkedFrames(path, options)
    return ImageFrames(path, options)
