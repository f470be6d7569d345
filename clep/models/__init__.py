"""Models: the dual encoder and its towers, feature bank operators, classifiers, saving and loading."""

from clep.models.action_classifier import ActionClassifier, RegionEncoder
from clep.models.checkpoint_file import read_checkpoint, write_checkpoint
from clep.models.dual_encoder import DualEncoder, Tower
from clep.models.evaluating import evaluating
from clep.models.feature_bank_operators import FBOAvg, FBOMax, FBONone, FBONonLocal, FeatureBankOperator
from clep.models.joint_space import JointSpace
from clep.models.long_term import LongTermTower
from clep.models.pixel_tower import PixelTower
from clep.models.pooling import masked_max, masked_mean
from clep.models.projection import ProjectionHead
from clep.models.saving import SavedModel, load_model, load_weights
from clep.models.temporal import GatedAttention, TemporalAttention, TemporalTower
from clep.models.trainable_text import SentenceTower, TrainableSentenceEncoder
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
    "JointSpace",
    "LongTermTower",
    "PixelTower",
    "ProjectionHead",
    "RegionEncoder",
    "SavedModel",
    "SentenceTower",
    "TemporalAttention",
    "TemporalTower",
    "Tower",
    "TrainableSentenceEncoder",
    "TrainedEncoder",
    "VideoClassifier",
    "evaluating",
    "load_model",
    "load_weights",
    "masked_max",
    "masked_mean",
    "read_checkpoint",
    "write_checkpoint",
]
