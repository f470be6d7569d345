"""Key frames that somebody has taken out of a video: a folder of images that are called by their second."""

import re
from collections.abc import Iterator
from pathlib import Path

from clep.errors import InputError
from clep.video.images import read_image
from clep.video.sampling import KeyFrames, SampledClip
from clep.video.suffixes import IMAGE_SUFFIXES


class KeyFrameImages:
    """Images `<second>.jpg` of one video ("0902.jpg" and "902.jpg" alike), read as clips that do not move.

    Args:
        folder: of the images.
        short_side_px: what their short side is resized to.

    Attributes:
        duration_s: the number of images, taken for a second each.

    Raises:
        InputError: the folder has no such image.
    """

    decoded_frames = 0
    corrupt_packets = 0

    def __init__(self, folder: str | Path, short_side_px: int) -> None:
        self._short_side_px = short_side_px
        self._files = key_frame_files(folder)
        if not self._files:
            raise InputError(f"{folder} has no image that is called by its second, such as 0902.jpg")
        self.duration_s = float(len(self._files))

    def clips(self, sampling: KeyFrames, frames: int) -> Iterator[SampledClip]:
        """Yield a clip for each second that has an image which can be read: the image, `frames` times.

        Raises:
            InputError: not one second has such an image.
        """
        reason = "none is there"
        for number, second in enumerate(sampling.seconds):
            path = self._files.get(second)
            if path is None:
                continue
            try:
                pixels = read_image(path, self._short_side_px)
            except InputError as error:
                self.corrupt_packets += 1
                reason = str(error)
                continue
            self.decoded_frames += 1
            yield SampledClip(second, second, (number,) * frames, (pixels,) * frames)
        if not self.decoded_frames:
            raise InputError(f"no image of the {len(sampling.seconds)} key frames can be read: {reason}")


def key_frame_files(folder: str | Path) -> dict[float, Path]:
    """Return the images of a folder that are called by a second, sorted by it."""
    found = {
        float(path.stem): path
        for path in sorted(Path(folder).iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and re.fullmatch(r"\d{1,7}", path.stem)
    }
    return dict(sorted(found.items()))
