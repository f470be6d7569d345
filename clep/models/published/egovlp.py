"""EgoVLP (Lin et al. 2022, arXiv 2206.01670): a space-time transformer and DistilBERT.

Its own files and those that LaViLa's script converted. Follows showlab/EgoVLP, commit 928406c.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clep.models.published.bert import distilbert
from clep.models.published.checkpoint import Checkpoint
from clep.models.published.model import PublishedModel, fit_weights, need
from clep.models.published.pixels import IMAGENET_MEAN, IMAGENET_STD, PublishedClip
from clep.models.published.space_time import Resampling, SpaceTimeTransformer, read_space_time

# LaViLa's names for a converted EgoVLP, and EgoVLP's own.
_CONVERTED = {"visual.": "video_model.", "textual.": "text_model."}
_CONVERTED |= {"image_projection.": "vid_proj.", "text_projection.": "txt_proj."}


class EgoVLP(PublishedModel):
    """Class token through a linear layer; DistilBERT's first token through ReLU and a linear layer.

    Similarity is the cosine: embeddings have unit length unless asked otherwise. There is no logit scale.
    """

    kind = "egovlp"

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


def build(file: Checkpoint, sizes: Mapping[str, Any] | None, frames: int | None) -> EgoVLP:
    """Build the model that EgoVLP's own file, or its conversion by LaViLa, holds."""
    converted = "visual.cls_token" in file.tensors and "image_projection.0.weight" in file.tensors
    if converted:
        _rename_converted(file.tensors)
    need(file, ("video_model.cls_token", "vid_proj.0.weight", "vid_proj.0.bias"), "egovlp")
    need(file, ("txt_proj.1.weight", "txt_proj.1.bias"), "egovlp")
    need(file, ("text_model.transformer.layer.0.ffn.lin1.weight",), "egovlp")
    state = file.tensors
    dim = state["vid_proj.0.weight"].shape[0]
    usual_frames = state["video_model.temporal_embed"].shape[1]
    visual = space_time(file, sizes, frames, 1e-6, "zeros", dim)
    with torch.device("meta"):
        textual = distilbert(state, "text_model.", sizes)
        model = EgoVLP(visual, textual, projection(state, "vid_proj"), projection(state, "txt_proj"), dim)
    fit_weights(model, state, file.path)
    model.clip, model.usual_frames = egovlp_clip(visual), usual_frames
    if converted:  # evaluated with LaViLa's frames and pixels
        size = visual.image_size
        model.clip = PublishedClip(visual.frames, "lavila", size, size, IMAGENET_MEAN, IMAGENET_STD)
    return model


def _rename_converted(state: dict[str, Tensor]) -> None:
    for name in list(state):
        for theirs, own in _CONVERTED.items():
            if name.startswith(theirs):
                state[own + name[len(theirs) :]] = state.pop(name)
    state.pop("logit_scale", None)


def space_time(
    file: Checkpoint, sizes: Mapping[str, Any] | None, frames: int | None, eps: float, resampling: Resampling, dim: int
) -> SpaceTimeTransformer:
    """Return the video side for the weights below `video_model.`, on the meta device; see `read_space_time`."""
    vision, frames = read_space_time(file, sizes, "video_model", frames, resampling, dim)
    with torch.device("meta"):
        return SpaceTimeTransformer(vision, frames, "gelu", eps=eps)


def egovlp_clip(visual: SpaceTimeTransformer) -> PublishedClip:
    """Return EgoVLP's clip: short side and centre crop 256, then 224, not antialiased."""
    size = visual.image_size
    larger = round(size * 256 / 224)
    return PublishedClip(
        visual.frames,
        "egovlp",
        size,
        larger,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        crop_first_px=larger,
    )


def projection(state: Mapping[str, Tensor], name: str) -> nn.Sequential:
    """Return the projection for the weights below `name`: linear layers, with ReLU where an index has no weights."""
    indices = sorted({int(key.split(".")[1]) for key in state if key.startswith(f"{name}.")})
    layers: list[nn.Module] = []
    for index in range(max(indices) + 1):
        if index in indices:
            out_dim, in_dim = state[f"{name}.{index}.weight"].shape
            layers.append(nn.Linear(in_dim, out_dim, bias=f"{name}.{index}.bias" in state))
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
