"""A small simulated world in the official formats of Ego4D, Kinetics and Charades-Ego: no licence, no network.

`make_world` makes it, `simulate_*` make features for annotation files that exist, `probe_ceiling` measures what
supervision reaches on its zero-shot classes, and `shuffled_narrations` makes the control.
"""

from clep.demo.frozen_encoder import EncoderSettings, FrozenEncoder
from clep.demo.probe import chance, probe_ceiling, probe_top1
from clep.demo.settings import WorldSettings
from clep.demo.shuffled import shuffled_narrations
from clep.demo.simulate import simulate_ego_charades, simulate_features, simulate_kinetics, simulate_narrations
from clep.demo.world import make_world, read_world

__all__ = [
    "EncoderSettings",
    "FrozenEncoder",
    "WorldSettings",
    "chance",
    "make_world",
    "probe_ceiling",
    "probe_top1",
    "read_world",
    "shuffled_narrations",
    "simulate_ego_charades",
    "simulate_features",
    "simulate_kinetics",
    "simulate_narrations",
]
