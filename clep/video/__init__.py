"""Video files to rows: decoding by timestamp, clip sampling, pixel transforms, frozen encoders, and the pipeline."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clep.video.encode import EncodedVideo, encode_video
    from clep.video.encoder import ClipSpec, VideoEncoder
    from clep.video.reader import SampledClip, VideoReader
    from clep.video.sampling import DenseWindows, Segments

_HOME = {
    "ClipSpec": "encoder",
    "DenseWindows": "sampling",
    "EncodedVideo": "encode",
    "SampledClip": "reader",
    "Segments": "sampling",
    "VideoEncoder": "encoder",
    "VideoReader": "reader",
    "encode_video": "encode",
}

__all__ = [
    "ClipSpec",
    "DenseWindows",
    "EncodedVideo",
    "SampledClip",
    "Segments",
    "VideoEncoder",
    "VideoReader",
    "encode_video",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use: reading what a row covers should not load torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
