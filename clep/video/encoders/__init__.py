"""Pretrained video encoders, one family a file. Libraries and weights are loaded when an encoder is built."""

from clep.video.encoders.efficientnet_lite import EfficientNetLite0
from clep.video.encoders.image_text import ImageText
from clep.video.encoders.pixels import Pixels
from clep.video.encoders.timesformer import TimeSformer
from clep.video.encoders.videomae import VideoMAE
from clep.video.encoders.videomae_v2 import VideoMAEv2
from clep.video.encoders.vjepa2 import VJEPA2

__all__ = ["VJEPA2", "EfficientNetLite0", "ImageText", "Pixels", "TimeSformer", "VideoMAE", "VideoMAEv2"]
