"""Pretrained encoders that turn clips into rows, one family a file. Models load when one is built, not on import."""

from clep.video.encoders.efficientnet_lite import EfficientNetLite0
from clep.video.encoders.image_text import ImageText
from clep.video.encoders.pixels import Pixels
from clep.video.encoders.timesformer import TimeSformer
from clep.video.encoders.videomae import VideoMAE

__all__ = ["EfficientNetLite0", "ImageText", "Pixels", "TimeSformer", "VideoMAE"]
