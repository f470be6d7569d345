"""EgoVLPv2 (Pramanick et al. 2023, arXiv 2307.05463), as a dual encoder: space-time transformer and RoBERTa.

The layers of its fusion path are not built. Follows facebookresearch/EgoVLPv2, commit 550c059.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clep.models.published.bert import roberta
from clep.models.published.egovlp import egovlp_clip, space_time
from clep.models.published.model import PublishedModel, fit_weights, need
from clep.models.published.space_time import SpaceTimeTransformer

_FUSION = ("_i2t", "alpha_i2t")
_KEPT = ("video_model.", "text_model.", "vid_proj.", "txt_proj.")


class EgoVLPv2(PublishedModel):
    """Class token and RoBERTa's first token through three linear layers with ReLU, or through EgoVLP's projections.

    Similarity is the cosine. The published EgoMCQ figures add the fusion path's matching score, which is not here.
    """

    kind = "egovlpv2"

    def __init__(
        self,
        video_model: SpaceTimeTransformer,
        text_model: nn.Module,
        vid_proj: nn.Module,
        txt_proj: nn.Module,
        dim: int,
    ) -> None:
        super().__init__()
        self.video_model, self.text_model = video_model, text_model
        self.vid_proj, self.txt_proj = vid_proj, txt_proj
        self.dim, self.feature_dim = dim, video_model.norm.normalized_shape[0]

    def video_features(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return the normalised class token."""
        return self.video_model(pixels)

    def project_video(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Apply the video projection."""
        return self.vid_proj(features)

    def embed_tokens(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch dim"]:
        """Apply the text projection to the first token."""
        return self.txt_proj(self.text_model(input_ids=token_ids, attention_mask=mask).last_hidden_state[:, 0])


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
    for name in list(state):  # relative names of both projectors
        if name.startswith("text_model.pooler."):
            del state[name]
    small = "vid_proj.0.bias" in state
    last = "vid_proj.0.weight" if small else "vid_proj.4.weight"
    need(state, (last,), "egovlpv2", source)
    dim = state[last].shape[0]
    with torch.device("meta"):
        visual = space_time(state, sizes, frames, 1e-5, "linear_aligned", dim, source)
        textual = roberta(state, "text_model.", sizes)
        model = EgoVLPv2(visual, textual, _projection(state, "vid_proj"), _projection(state, "txt_proj"), dim)
    fit_weights(model, state, source)
    model.clip = egovlp_clip(visual)
    return model


def _projection(state: Mapping[str, Tensor], name: str) -> nn.Sequential:
    """Return the projection that the weights below `name` belong to: linear layers, ReLU where a number is skipped."""
    numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith(f"{name}.")})
    layers: list[nn.Module] = []
    for number in range(max(numbers) + 1):
        if number in numbers:
            out_dim, in_dim = state[f"{name}.{number}.weight"].shape
            layers.append(nn.Linear(in_dim, out_dim, bias=f"{name}.{number}.bias" in state))
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
