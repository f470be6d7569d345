"""Synthetic datasets in the official formats of Ego4D, Kinetics, Charades-Ego and AVA; no licence or network needed.

Six kinds, each a class of settings with `make(folder, seed)`: `SyntheticFeatures`, `SyntheticVideos` (drawn H.264
files), `SyntheticLongTerm` (narrations that depend on the half minute before), `SyntheticObjectives` (to compare
objectives, towers and samplers), `SyntheticAVA` and `SyntheticEgo4D` (Ego4D's counts, to measure at full size).
`simulate_*` write features for existing annotation files, `supervised_probe` measures a supervised reference for
zero-shot accuracy, and `shuffled_narrations` writes a control.
"""

from clep.demo.ava import SyntheticAVA
from clep.demo.encoder import EncoderSettings, FrozenEncoder
from clep.demo.features import SyntheticFeatures
from clep.demo.full_size import SyntheticEgo4D
from clep.demo.long_term import SyntheticLongTerm
from clep.demo.objectives import SyntheticObjectives
from clep.demo.probe import ProbeReference, supervised_probe
from clep.demo.simulate import (
    shuffled_narrations,
    simulate_ego_charades,
    simulate_features,
    simulate_kinetics,
    simulate_narrations,
)
from clep.demo.synthetic import SyntheticDataset, make_dataset
from clep.demo.videos import SyntheticVideos

__all__ = [
    "EncoderSettings",
    "FrozenEncoder",
    "ProbeReference",
    "SyntheticAVA",
    "SyntheticDataset",
    "SyntheticEgo4D",
    "SyntheticFeatures",
    "SyntheticLongTerm",
    "SyntheticObjectives",
    "SyntheticVideos",
    "make_dataset",
    "shuffled_narrations",
    "simulate_ego_charades",
    "simulate_features",
    "simulate_kinetics",
    "simulate_narrations",
    "supervised_probe",
]
