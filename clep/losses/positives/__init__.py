"""Rules that tell which texts of a batch are right for which videos, one a file."""

from clep.losses.positives.diagonal import DiagonalPositives
from clep.losses.positives.rule import Keys, Positives, PositivesRule
from clep.losses.positives.text_id import TextIdPositives, text_id_positives
from clep.losses.positives.text_similarity import TextSimilarityPositives
from clep.losses.positives.verb_noun import VerbNounPositives

__all__ = [
    "DiagonalPositives",
    "Keys",
    "Positives",
    "PositivesRule",
    "TextIdPositives",
    "TextSimilarityPositives",
    "VerbNounPositives",
    "text_id_positives",
]
