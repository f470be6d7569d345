"""Towers, and the model that puts a video tower and a text tower into one space."""

from clep.models.dual_encoder import DualEncoder
from clep.models.pooling import masked_mean
from clep.models.projection import ProjectionHead
from clep.models.storage import load_weights
from clep.models.tower import Tower

__all__ = ["DualEncoder", "ProjectionHead", "Tower", "load_weights", "masked_mean"]
