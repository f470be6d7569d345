"""Video files to rows: decoding by timestamp, clip sampling, pixel transforms, frozen encoders, and the pipeline."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clep.video.decoding import expected_seconds
    from clep.video.encode import EncodedVideo, encode_video
    from clep.video.encoder import ClipSpec, VideoEncoder
    from clep.video.frames import frames_at
    from clep.video.images import encode_images, read_image
    from clep.video.reader import VideoReader
    from clep.video.sampling import DenseWindows, KeyFrames, RandomSegment, SampledClip, Segments

_HOME = {
    "ClipSpec": "encoder",
    "DenseWindows": "sampling",
    "EncodedVideo": "encode",
    "KeyFrames": "sampling",
    "RandomSegment": "sampling",
    "SampledClip": "sampling",
    "Segments": "sampling",
    "VideoEncoder": "encoder",
    "VideoReader": "reader",
    "encode_images": "images",
    "encode_video": "encode",
    "expected_seconds": "decoding",
    "frames_at": "frames",
    "read_image": "images",
}

__all__ = [
    "ClipSpec",
    "DenseWindows",
    "EncodedVideo",
    "KeyFrames",
    "RandomSegment",
    "SampledClip",
    "Segments",
    "VideoEncoder",
    "VideoReader",
    "encode_images",
    "encode_video",
    "expected_seconds",
    "frames_at",
    "read_image",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use: PyAV is an extra, and a reader of banks needs no decoder."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
