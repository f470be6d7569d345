"""A small simulated world in the official formats of Ego4D, Kinetics and Charades-Ego: no licence, no network.

`make_world` makes it, `simulate_*` make features for annotation files that exist, `probe_ceiling` measures what
supervision reaches on its zero-shot classes, and `shuffled_narrations` makes the control. `make_video_world` makes the
counterpart in pixels: H.264 files of drawn things and hands, to extract features from.
"""

from clep.demo.frozen_encoder import EncoderSettings, FrozenEncoder
from clep.demo.probe import chance, probe_ceiling, probe_top1
from clep.demo.settings import WorldSettings
from clep.demo.shuffled import shuffled_narrations
from clep.demo.simulate import simulate_ego_charades, simulate_features, simulate_kinetics, simulate_narrations
from clep.demo.video_settings import VideoWorldSettings
from clep.demo.video_world import make_video_world, read_video_world
from clep.demo.world import make_world, read_world

__all__ = [
    "EncoderSettings",
    "FrozenEncoder",
    "VideoWorldSettings",
    "WorldSettings",
    "chance",
    "make_video_world",
    "make_world",
    "probe_ceiling",
    "probe_top1",
    "read_video_world",
    "read_world",
    "shuffled_narrations",
    "simulate_ego_charades",
    "simulate_features",
    "simulate_kinetics",
    "simulate_narrations",
]
