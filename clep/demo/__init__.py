"""A small simulated world in the official formats of Ego4D, Kinetics and Charades-Ego: no licence, no network.

`make_world` makes it, `simulate_*` make features for annotation files that exist, `probe_ceiling` measures what
supervision reaches on its zero-shot classes, and `shuffled_narrations` makes the control. `make_video_world` makes the
counterpart in pixels: H.264 files of drawn things and hands, to extract features from. `make_long_term_world` makes
one in which what is right to say depends on the half minute before, `make_objectives_world` one on which objectives,
towers and batches make a difference.
"""

from clep.demo.ava_world import AvaWorldSettings, make_ava_world
from clep.demo.frozen_encoder import EncoderSettings, FrozenEncoder
from clep.demo.long_term_world import LongTermWorldSettings, make_long_term_world
from clep.demo.objectives_world import ObjectivesWorldSettings, make_objectives_world
from clep.demo.probe import chance, probe_ceiling, probe_top1
from clep.demo.settings import WorldSettings
from clep.demo.shuffled import shuffled_narrations
from clep.demo.simulate import simulate_ego_charades, simulate_features, simulate_kinetics, simulate_narrations
from clep.demo.video_settings import VideoWorldSettings
from clep.demo.video_world import make_video_world, read_video_world
from clep.demo.world import make_world, read_world

__all__ = [
    "AvaWorldSettings",
    "EncoderSettings",
    "FrozenEncoder",
    "LongTermWorldSettings",
    "ObjectivesWorldSettings",
    "VideoWorldSettings",
    "WorldSettings",
    "chance",
    "make_ava_world",
    "make_long_term_world",
    "make_objectives_world",
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
