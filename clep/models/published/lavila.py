"""LaViLa (Zhao et al. 2023, arXiv 2212.04501): a space-time transformer with CLIP's text side or DistilBERT.

Files of the official repository: `TSF-B`, `TSF-L`, `TSF-L@HR`, with or without gated attention. EgoVLP converted by
its script is an `EgoVLP`. Layout and arithmetic follow facebookresearch/LaViLa, commit 8002b5a.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from clep.models.published.bert import distilbert
from clep.models.published.checkpoint import Checkpoint, count_layers
from clep.models.published.layers import ClipText
from clep.models.published.model import PublishedModel, fit_weights, heads_of, need
from clep.models.published.pixels import IMAGENET_MEAN, IMAGENET_STD, LAVILA_MEAN, LAVILA_STD, PublishedClip
from clep.models.published.space_time import SpaceTimeTransformer, read_space_time

TEXT_HEADS = {512: 8, 768: 12}
_ROOT_TEXT_NAMES = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.")


class LaViLa(PublishedModel):
    """A clip's class token and a sentence's end token, each projected by a matrix into 256 dimensions.

    `encode_video` and `encode_text` give unit length; LaViLa's EgoMCQ takes `normalize=False`.
    """

    kind = "lavila"

    def __init__(self, visual: SpaceTimeTransformer, textual: nn.Module, text_width: int, dim: int) -> None:
        super().__init__()
        self.visual, self.textual = visual, textual
        self.dim, self.feature_dim = dim, visual.norm.normalized_shape[0]
        self.image_projection = nn.Parameter(torch.empty(self.feature_dim, dim))
        self.text_projection = None if isinstance(textual, ClipText) else nn.Parameter(torch.empty(text_width, dim))

    def video_features(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return the normalised class token."""
        return self.visual(pixels)

    def project_video(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Multiply with the image projection."""
        return features @ self.image_projection

    def embed_tokens(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch dim"]:
        """Return the projected end token of CLIP's text side, or the first token of DistilBERT."""
        if self.text_projection is None:
            return self.textual(token_ids)
        hidden = self.textual(input_ids=token_ids, attention_mask=mask).last_hidden_state
        return hidden[:, 0] @ self.text_projection


def build(file: Checkpoint, sizes: Mapping[str, Any] | None, frames: int | None) -> LaViLa:
    """Build the model that a LaViLa checkpoint holds."""
    need(file, ("visual.cls_token", "visual.temporal_embed", "visual.patch_embed.proj.weight"), "lavila")
    need(file, ("image_projection", "text_projection", "logit_scale"), "lavila")
    state = file.tensors
    dim, usual_frames = state["image_projection"].shape[1], state["visual.temporal_embed"].shape[1]
    vision, frames = read_space_time(file, sizes, "visual", frames, "linear", dim)
    scale = float(state.pop("logit_scale").double().exp())
    gated = "visual.blocks.0.alpha_timeattn" in state
    with torch.device("meta"):
        visual = SpaceTimeTransformer(vision, frames, "quick_gelu", ln_pre=True, patch_bias=False, gated=gated)
        textual, text_width = _text_side(state, sizes)
        model = LaViLa(visual, textual, text_width, dim)
    fit_weights(model, state, file.path)
    model.logit_scale, model.usual_frames = scale, usual_frames
    openai = "OPENAI" in str(file.args.get("model", "OPENAI")).upper()
    mean, std = (LAVILA_MEAN, LAVILA_STD) if openai else (IMAGENET_MEAN, IMAGENET_STD)
    model.clip = PublishedClip(frames, "lavila", vision.image_size, vision.image_size, mean, std)
    return model


def _text_side(state: dict[str, Tensor], sizes: Mapping[str, Any] | None) -> tuple[nn.Module, int]:
    """Return the text side for the weights, which are renamed to `textual.…`."""
    if "textual.embeddings.word_embeddings.weight" in state:
        return distilbert(state, "textual.", sizes), state["text_projection"].shape[0]
    for name in list(state):
        if name.startswith(_ROOT_TEXT_NAMES) or name == "text_projection":
            state[f"textual.{name}"] = state.pop(name)
    return clip_text(state, "textual.", sizes, "quick_gelu", TEXT_HEADS)


def clip_text(
    state: Mapping[str, Tensor], prefix: str, sizes: Mapping[str, Any] | None, act: Any, released: Mapping[int, int]
) -> tuple[ClipText, int]:
    """Return CLIP's text side in the sizes of the weights below `prefix`, and its width."""
    vocabulary, width = state[f"{prefix}token_embedding.weight"].shape
    text = ClipText(
        vocabulary,
        state[f"{prefix}positional_embedding"].shape[0],
        width,
        count_layers(state, f"{prefix}transformer.resblocks"),
        heads_of(width, sizes, "text_heads", released),
        state[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        state[f"{prefix}text_projection"].shape[1],
        act,
    )
    return text, width
