"""Contrastive objectives, one per file; rules for positives; and the wrapper that computes a loss across ranks."""

from clep.losses.across_ranks import AcrossRanks, across_ranks, check_objective
from clep.losses.adaptive_max_margin import AdaptiveMaxMarginLoss
from clep.losses.bce import BCELoss
from clep.losses.clip import ClipLoss
from clep.losses.egonce import EgoNCELoss
from clep.losses.max_margin import MaxMarginLoss
from clep.losses.multi_positive import MultiPositiveNCELoss
from clep.losses.positives import (
    DiagonalPositives,
    PositivesRule,
    TextIdPositives,
    TextSimilarityPositives,
    VerbNounPositives,
    text_id_positives,
)
from clep.losses.relevancy import RelevancyPositives
from clep.losses.sigmoid import SigmoidLoss
from clep.losses.symmetric_multi_similarity import SymmetricMultiSimilarityLoss

__all__ = [
    "AcrossRanks",
    "AdaptiveMaxMarginLoss",
    "BCELoss",
    "ClipLoss",
    "DiagonalPositives",
    "EgoNCELoss",
    "MaxMarginLoss",
    "MultiPositiveNCELoss",
    "PositivesRule",
    "RelevancyPositives",
    "SigmoidLoss",
    "SymmetricMultiSimilarityLoss",
    "TextIdPositives",
    "TextSimilarityPositives",
    "VerbNounPositives",
    "across_ranks",
    "check_objective",
    "text_id_positives",
]
