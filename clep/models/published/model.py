"""What every published dual encoder is here: pixels and token ids in, embeddings of one joint space out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from clep.errors import InputError
from clep.models.published.checkpoint import as_float32
from clep.models.published.pixels import PublishedClip, transform


@dataclass(frozen=True)
class Tokens:
    """Token ids of sentences, `[sentences, tokens]`, and True where a token is one and no padding."""

    ids: Int64[Tensor, "sentences tokens"]
    mask: Bool[Tensor, "sentences tokens"]


Tokenizer = Callable[[list[str]], Tokens]


class PublishedModel(nn.Module):
    """A published video–language model, frozen and in evaluation mode.

    A subclass is one family. It defines `video_features`, `project_video` and `text_features_and_embedding`.

    Attributes:
        clip: the clip it takes.
        dim: dimension of the joint space.
        feature_dim: feature dimension before the projection into it.
        logit_scale: the multiplier of cosine similarities that the file holds, already exponentiated; None where the
            model has none.
    """

    kind: str
    clip: PublishedClip
    dim: int
    feature_dim: int
    logit_scale: float | None = None
    tokenizer: Tokenizer | None = None

    def encode_video(
        self, pixels: Float[Tensor, "batch frames colours height width"], normalize: bool = True
    ) -> Float[Tensor, "batch dim"]:
        """Embed normalised clips (see `video_transform`) into the joint space.

        Args:
            pixels: time before colour.
            normalize: scale the embeddings to unit length, as the official evaluations do (EgoMCQ of LaViLa and
                AVION apart, which take raw dot products).

        Raises:
            InputError: the clips have another number of frames or another size than the model.
        """
        check_layout(pixels)
        embedding = self.project_video(self.video_features(pixels))
        return functional.normalize(embedding, dim=-1) if normalize else embedding

    def encode_text(
        self,
        token_ids: Int64[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"] | UInt8[Tensor, "batch tokens"] | None = None,
        normalize: bool = True,
    ) -> Float[Tensor, "batch dim"]:
        """Embed token ids (see `tokenize`) into the joint space.

        Args:
            token_ids: as the model's tokenizer gives them.
            mask: True where a token is no padding; None: all are tokens. Models with a causal text side ignore it.
            normalize: scale the embeddings to unit length.
        """
        embedding = self.embed_tokens(token_ids, None if mask is None else mask.bool())
        return functional.normalize(embedding, dim=-1) if normalize else embedding

    def video_features(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return the features of clips before the projection into the joint space."""
        raise NotImplementedError

    def project_video(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch dim"]:
        """Project features of clips into the joint space, not normalised."""
        raise NotImplementedError

    def embed_tokens(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch dim"]:
        """Project sentences into the joint space, not normalised."""
        raise NotImplementedError

    def tokenize(self, sentences: list[str]) -> Tokens:
        """Return the token ids that the official code gives these sentences.

        Raises:
            InputError: the model's tokenizer is not at hand; the message says where to get it.
        """
        if self.tokenizer is None:
            raise InputError(
                f"{self.kind} needs its tokenizer: load_published(..., tokenizer=NAME_OR_FOLDER) with a tokenizer of "
                "transformers, or `pip install 'clep[published]'` for models with CLIP's tokenizer"
            )
        return self.tokenizer(sentences)

    def video_transform(
        self, frames: UInt8[Tensor, "*batch 3 height width"]
    ) -> Float[Tensor, "*batch 3 crop_px crop_px"]:
        """Resize, crop and normalise uint8 RGB frames as the official code does."""
        return transform(frames, self.clip)


def check_layout(pixels: Tensor) -> None:
    """Refuse clips whose colours are not the third dimension.

    Raises:
        InputError: the layout is another one, e.g. `[batch, 3, frames, height, width]`.
    """
    if pixels.ndim != 5 or pixels.shape[2] != 3:
        raise InputError(
            f"a clip is [batch, frames, 3, height, width], not {list(pixels.shape)}; "
            "use pixels.transpose(1, 2) where colours come before time"
        )


def fit_weights(model: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Put the tensors of a checkpoint in place of a model's, which was built on the meta device: nothing is copied.

    Raises:
        InputError: names or shapes differ; the message names the first ones.
    """
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    reshaped = [name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape]
    problems = [
        f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''})"
        for names, what in ((missing, "missing"), (extra, "unexpected"), (reshaped, "of another shape"))
        if names
    ]
    if problems:
        raise InputError(f"{source} does not fit this model: tensors {'; '.join(problems)}. Check kind and sizes")
    model.load_state_dict(as_float32(state), assign=True)
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:  # those of transformers that no checkpoint holds
            owner, _, leaf = name.rpartition(".")
            length = buffer.shape[-1]
            made = torch.arange(length)[None] if leaf == "position_ids" else torch.zeros(1, length, dtype=torch.int64)
            model.get_submodule(owner).register_buffer(leaf, made, persistent=False)
    model.requires_grad_(False).eval()


def heads_of(width: int, sizes: Mapping[str, Any] | None, key: str, released: Mapping[int, int]) -> int:
    """Return the number of attention heads, which no checkpoint holds.

    Args:
        width: feature dimension of the transformer.
        sizes: the user's sizes; `key` in it wins.
        released: heads of the released models by their width.

    Raises:
        InputError: neither says how many, or they do not divide the width.
    """
    heads = (sizes or {}).get(key, released.get(width))
    if heads is None:
        raise InputError(
            f"no released model is {width} wide, and the file does not hold the number of heads: give "
            f"sizes={{'{key}': N, …}}; released widths: {', '.join(map(str, released))}"
        )
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise InputError(f"sizes['{key}']={heads!r} does not divide the width {width} that the weights have")
    return heads


def check_sizes(sizes: Mapping[str, Any] | None, found: Mapping[str, int], source: str | Path) -> None:
    """Refuse a checkpoint whose shapes differ from the sizes that the user gave.

    Raises:
        InputError: a size differs; names it.
    """
    for key, value in found.items():
        if sizes is not None and key in sizes and sizes[key] != value:
            raise InputError(
                f"{source} has {key}={value}, but sizes['{key}']={sizes[key]!r}: is it another checkpoint?"
            )


def need(state: Mapping[str, Tensor], names: tuple[str, ...], kind: str, source: str | Path) -> None:
    """Refuse a checkpoint of another family, by the names that this one always has.

    Raises:
        InputError: a name is missing.
    """
    if missing := [name for name in names if name not in state]:
        raise InputError(
            f"{source} is no checkpoint of {kind}: it lacks {missing[0]}; it holds {', '.join(sorted(state)[:3])}, …"
        )
