"""Narrations and prompts: parsed, cleaned, filtered, stored as columns, and embedded."""

from clep.text.filters import training_moments
from clep.text.narration_table import NarrationTable
from clep.text.narrations import Narrations
from clep.text.prompts import average_templates, ego_charades_prompts, kinetics_prompts
from clep.text.sentence_encoder import SentenceEncoder
from clep.text.spans import egovlp_spans, fixed_spans
from clep.text.tags import TAG_STYLES, remove_tags, substitute_tags
from clep.text.taxonomy import Taxonomy
from clep.text.texts import GroupIds, Texts
from clep.weights import sentence_model_name

__all__ = [
    "TAG_STYLES",
    "GroupIds",
    "NarrationTable",
    "Narrations",
    "SentenceEncoder",
    "Taxonomy",
    "Texts",
    "average_templates",
    "ego_charades_prompts",
    "egovlp_spans",
    "fixed_spans",
    "kinetics_prompts",
    "remove_tags",
    "sentence_model_name",
    "substitute_tags",
    "training_moments",
]
