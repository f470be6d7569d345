"""EgoVLPv2 (Pramanick et al. 2023, arXiv 2307.05463), as a dual encoder: space-time transformer and RoBERTa.

The layers of its fusion path are not built. Follows facebookresearch/EgoVLPv2, commit 550c059.
"""

from collections.abc import Mapping
from typing import Any

import torch

from clep.models.published.bert import roberta
from clep.models.published.checkpoint import Checkpoint
from clep.models.published.egovlp import EgoVLP, egovlp_clip, projection, space_time
from clep.models.published.model import fit_weights, need

_FUSION = ("_i2t", "alpha_i2t")
_KEPT = ("video_model.", "text_model.", "vid_proj.", "txt_proj.")


class EgoVLPv2(EgoVLP):
    """Class token and RoBERTa's first token through three linear layers with ReLU, or through EgoVLP's projections.

    Similarity is the cosine. The published EgoMCQ figures add the fusion path's matching score, which is not here.
    """

    kind = "egovlpv2"


def build(file: Checkpoint, sizes: Mapping[str, Any] | None, frames: int | None) -> EgoVLPv2:
    """Build the dual encoder that an EgoVLPv2 checkpoint holds, with either projection."""
    need(file, ("video_model.cls_token", "text_model.encoder.layer.0.output.dense.weight"), "egovlpv2")
    state = file.tensors
    for name in list(state):
        if not name.startswith(_KEPT) or (name.startswith("video_model.") and any(part in name for part in _FUSION)):
            del state[name]
    last = "vid_proj.0.weight" if "vid_proj.0.bias" in state else "vid_proj.4.weight"
    need(file, (last,), "egovlpv2")
    dim = state[last].shape[0]
    usual_frames = state["video_model.temporal_embed"].shape[1]
    visual = space_time(file, sizes, frames, 1e-5, "linear_aligned", dim)
    with torch.device("meta"):
        textual = roberta(state, "text_model.", sizes)
        model = EgoVLPv2(visual, textual, projection(state, "vid_proj"), projection(state, "txt_proj"), dim)
    fit_weights(model, state, file.path)
    model.clip, model.usual_frames = egovlp_clip(visual), usual_frames
    return model
