"""Images as videos of one frame: reading, and encoding by a frozen encoder."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor

from clep.errors import InputError
from clep.files import check_input
from clep.video.batches import BatchEncoder, Mark, encode_in_batches
from clep.video.encoder import VideoEncoder
from clep.video.sampling import KeyFrames, SampledClip
from clep.video.spans import FrameRule
from clep.video.suffixes import IMAGE_SUFFIXES
from clep.video.transforms import resize_short_side

Image = tuple[Tensor, ...] | Mark

_READERS = 8
_LARGEST_PIXELS = 200_000_000


def read_image(path: str | Path, short_side_px: int | None) -> UInt8[Tensor, "3 height width"]:
    """Read an image as RGB in its EXIF orientation; only the first frame of an animation.

    The short side is resized to `short_side_px`; None leaves the full size.

    Transparent pixels become white. A picture longer than 16 times its short side is squeezed to that.

    Raises:
        InputError: the file is missing, empty, no image, cut off, or of more than 200 million pixels.
    """
    try:
        from PIL import Image as images
        from PIL import ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise InputError("reading images needs Pillow: pip install 'clep[video]'") from error
    try:
        with images.open(check_input(path)) as file:
            if file.width * file.height > _LARGEST_PIXELS:
                raise InputError(
                    f"{path} has {file.width}x{file.height} pixels, more than is plausible; resize or remove it"
                )
            if short_side_px is not None:
                # A JPEG is decoded at a half, a quarter or an eighth of its size if that is large enough.
                file.draft("RGB", (2 * short_side_px, 2 * short_side_px))
            upright = ImageOps.exif_transpose(file)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                upright = images.alpha_composite(images.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
            pixels = np.array(upright.convert("RGB"))
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, images.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    height, width = tensor.shape[-2:]
    longest = 16 * min(height, width)
    if max(height, width) > longest:
        tensor = torch.nn.functional.interpolate(
            tensor[None].float(), size=(min(height, longest), min(width, longest)), mode="area"
        )[0].to(torch.uint8)
    return tensor if short_side_px is None else resize_short_side(tensor, short_side_px)


def encode_images(
    paths: Sequence[str | Path],
    encoder: VideoEncoder,
    *,
    crops: str = "centre",
    batch_size: int = 8,
    device: str | torch.device = "cpu",
    precision: str = "float32",
    begin: Callable[[int], None] = lambda index: None,
) -> Iterator[Float32[np.ndarray, " dim"] | Exception]:
    """Encode images as videos of one frame; yields the row or the error of each file, in the order of `paths`.

    All batches have one shape; the last one is padded. For an encoder of clips, the image is repeated as each frame.
    `begin` is called with the index of a file before it is read.

    Raises:
        InputError: the crops are unknown.
    """
    batches = BatchEncoder(encoder, crops, device, precision)
    encoder.to(device).eval()
    frames = 1 if encoder.frame_wise else encoder.clip.frames

    def load(path: str | Path) -> tuple[Shaped[Tensor, "crops 3 _ _"], ...] | Mark:
        try:
            return (batches.prepare(read_image(path, batches.decoded_short_side_px)),) * frames
        except InputError as error:
            return Mark(error)
        except Exception as error:  # other errors of damaged files concern that file only
            return Mark(InputError(f"{path} cannot be read as an image: {type(error).__name__}: {error}"))

    with ThreadPoolExecutor(_READERS) as readers, batches.compute_threads(batches.start) as (start, at_once):
        images = _read_ahead(readers, load, paths, 2 * batch_size * at_once, begin)
        for row in encode_in_batches(images, batch_size, start, at_once):
            yield row.content if isinstance(row, Mark) else row


def _read_ahead(
    readers: ThreadPoolExecutor,
    load: Callable[[str | Path], Image],
    paths: Sequence[str | Path],
    ahead: int,
    begin: Callable[[int], None],
) -> Iterator[Image]:
    """Yield `load(path)` for each path, in order, at most `ahead` images in advance."""
    reading: deque[Future[Image]] = deque()
    for index, path in enumerate(paths):
        begin(index)
        reading.append(readers.submit(load, path))
        if len(reading) > ahead:
            yield reading.popleft().result()
    while reading:
        yield reading.popleft().result()


class KeyFrameImages:
    """Images `<second>.jpg` of one video ("0902.jpg" or "902.jpg"), read as still clips.

    Args:
        folder: folder of the images.
        short_side_px: short side after resizing.

    Attributes:
        duration_s: the number of images, one second each.

    Raises:
        InputError: the folder has no such image.
    """

    decoded_frames = 0
    corrupt_packets = 0

    def __init__(self, folder: str | Path, short_side_px: int) -> None:
        self._short_side_px = short_side_px
        self._files = key_frame_files(folder)
        if not self._files:
            raise InputError(f"{folder} has no image named by its second, such as 0902.jpg; rename its images")
        self.duration_s = float(len(self._files))

    def clips(self, sampling: KeyFrames, frames: int, rule: FrameRule = "middle") -> Iterator[SampledClip]:
        """Yield a clip for each second whose image can be read: the image, `frames` times, by any frame rule.

        Raises:
            InputError: no second has such an image.
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
            raise InputError(f"none of the images of {len(sampling.seconds)} key frames can be read: {reason}")


def key_frame_files(folder: str | Path) -> dict[float, Path]:
    """Return the images of a folder whose names are seconds, sorted by second."""
    found = {
        float(path.stem): path
        for path in sorted(Path(folder).iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and re.fullmatch(r"\d{1,7}", path.stem)
    }
    return dict(sorted(found.items()))
