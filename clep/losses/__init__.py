"""Contrastive objectives, one a file; positives; and the wrapper that makes any of them work across ranks."""

from clep.losses.across_ranks import AcrossRanks, across_ranks
from clep.losses.clip import ClipLoss
from clep.losses.positives import same_text, text_id_positives

__all__ = ["AcrossRanks", "ClipLoss", "across_ranks", "same_text", "text_id_positives"]
