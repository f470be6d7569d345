"""Towers, what they are made of, and the model that puts a video tower and a text tower into one space."""

from clep.models.action_classifier import ActionClassifier
from clep.models.dual_encoder import DualEncoder
from clep.models.feature_bank_operators import FBOAvg, FBOMax, FBONone, FBONonLocal, FeatureBankOperator
from clep.models.gated_attention import GatedAttention
from clep.models.live_encoder import LiveSentenceEncoder
from clep.models.loading import load_model, read_checkpoint
from clep.models.long_term import LongTermTower
from clep.models.pixel_tower import PixelTower
from clep.models.pooling import masked_max, masked_mean
from clep.models.projection import ProjectionHead
from clep.models.region_encoder import RegionEncoder
from clep.models.saved_model import SavedModel
from clep.models.sentence_tower import SentenceTower
from clep.models.storage import load_weights
from clep.models.temporal import TemporalTower
from clep.models.temporal_attention import TemporalAttention
from clep.models.tower import Tower
from clep.models.trained_encoder import TrainedEncoder
from clep.models.video_classifier import VideoClassifier

__all__ = [
    "ActionClassifier",
    "DualEncoder",
    "FBOAvg",
    "FBOMax",
    "FBONonLocal",
    "FBONone",
    "FeatureBankOperator",
    "GatedAttention",
    "LiveSentenceEncoder",
    "LongTermTower",
    "PixelTower",
    "ProjectionHead",
    "RegionEncoder",
    "SavedModel",
    "SentenceTower",
    "TemporalAttention",
    "TemporalTower",
    "Tower",
    "TrainedEncoder",
    "VideoClassifier",
    "load_model",
    "load_weights",
    "masked_max",
    "masked_mean",
    "read_checkpoint",
]
