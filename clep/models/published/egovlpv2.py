"""EgoVLPv2 (Pramanick et al. 2023, arXiv 2307.05463), as a dual encoder: space-time transformer and RoBERTa.

The layers of its fusion path are not built. Follows facebookresearch/EgoVLPv2, commit 550c059.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clep.models.published.bert import roberta
from clep.models.published.egovlp import EgoVLP, egovlp_clip, projection, space_time
from clep.models.published.model import fit_weights, need

_FUSION = ("_i2t", "alpha_i2t")
_KEPT = ("video_model.", "text_model.", "vid_proj.", "txt_proj.")


class EgoVLPv2(EgoVLP):
    """Class token and RoBERTa's first token through three linear layers with ReLU, or through EgoVLP's projections.

    Similarity is the cosine. The published EgoMCQ figures add the fusion path's matching score, which is not here.
    """

    kind = "egovlpv2"


def build(
    state: dict[str, Tensor],
    args: Mapping[str, Any],
    sizes: Mapping[str, Any] | None,
    frames: int | None,
    source: str | Path,
) -> EgoVLPv2:
    """Build the dual encoder that an EgoVLPv2 checkpoint holds, with either projection."""
    need(state, ("video_model.cls_token", "text_model.encoder.layer.0.output.dense.weight"), "egovlpv2", source)
    for name in list(state):
        if not name.startswith(_KEPT) or (name.startswith("video_model.") and any(part in name for part in _FUSION)):
            del state[name]
    small = "vid_proj.0.bias" in state
    last = "vid_proj.0.weight" if small else "vid_proj.4.weight"
    need(state, (last,), "egovlpv2", source)
    dim = state[last].shape[0]
    with torch.device("meta"):
        visual = space_time(state, sizes, frames, 1e-5, "linear_aligned", dim, source)
        textual = roberta(state, "text_model.", sizes)
        model = EgoVLPv2(visual, textual, projection(state, "vid_proj"), projection(state, "txt_proj"), dim)
    fit_weights(model, state, source)
    model.clip = egovlp_clip(visual)
    return model
