"""Narrations and prompts: parsed, cleaned, filtered, stored as columns, and embedded."""

from clep.text.captions import caption_table
from clep.text.ego4d import read_ego4d
from clep.text.filters import training_moments
from clep.text.group_numbers import GroupNumbers
from clep.text.narrations import Narrations
from clep.text.prompts import average_templates, ego_charades_prompts, kinetics_prompts
from clep.text.sentence_encoder import SentenceEncoder
from clep.text.sentence_model import sentence_model_name
from clep.text.spans import egovlp_spans, fixed_spans
from clep.text.table import NarrationTable
from clep.text.tags import TAG_STYLES, remove_tags, substitute_tags
from clep.text.taxonomy import Taxonomy
from clep.text.texts import Texts

__all__ = [
    "TAG_STYLES",
    "GroupNumbers",
    "NarrationTable",
    "Narrations",
    "SentenceEncoder",
    "Taxonomy",
    "Texts",
    "average_templates",
    "caption_table",
    "ego_charades_prompts",
    "egovlp_spans",
    "fixed_spans",
    "kinetics_prompts",
    "read_ego4d",
    "remove_tags",
    "sentence_model_name",
    "substitute_tags",
    "training_moments",
]
