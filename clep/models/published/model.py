"""Base classes of published dual encoders, and what their loaders share: sizes, attention heads, fitting weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from clep.errors import InputError
from clep.models.published.checkpoint import Checkpoint, as_float32, count_layers
from clep.models.published.pixels import PublishedClip, transform


@dataclass(frozen=True)
class Tokens:
    """Token ids of sentences, `[sentences, tokens]`; the mask is False at padding.

    Examples:
        >>> from clep.models.published import load_published
        >>> model = load_published("lavila", "lavila/tsf.pt", tokenizer="lavila")
        >>> tokens = model.tokenize(["#C C opens the fridge", "#C C washes the cup"])
        >>> tokens.ids.shape == tokens.mask.shape, len(tokens.ids)
        (True, 2)
    """

    ids: Int64[Tensor, "sentences tokens"]
    mask: Bool[Tensor, "sentences tokens"]


Tokenizer = Callable[[list[str]], Tokens]


class PublishedModel(nn.Module):
    """A published video–language model, frozen and in evaluation mode.

    A subclass is one family. It defines `video_features`, `project_video` and `embed_tokens`.

    Attributes:
        kind: one of `KINDS`.
        name: kind and digest of the weights, which banks of this model record; the same for videos and texts.
        clip: the clip it takes.
        usual_frames: frames of a clip that it was trained with, or where clips were not part of the training, 8.
        dim: dimension of the joint space.
        feature_dim: feature dimension before the projection into it.
        logit_scale: the multiplier of cosine similarities that the file holds, already exponentiated; None where the
            model has none.

    Examples:
        `lavila/tsf.pt` is a tiny checkpoint with random weights in LaViLa's layout, beside a tokenizer of a few words.

        >>> import torch
        >>> from clep.models.published import load_published
        >>> model = load_published("lavila", "lavila/tsf.pt", tokenizer="lavila")
        >>> frames = torch.zeros(1, model.clip.frames, 3, 40, 60, dtype=torch.uint8)
        >>> tokens = model.tokenize(["#C C opens the fridge"])
        >>> model.encode_video(model.video_transform(frames)).shape, model.encode_text(tokens.ids, tokens.mask).shape
        (torch.Size([1, 24]), torch.Size([1, 24]))
    """

    kind: str
    name: str = ""
    clip: PublishedClip
    usual_frames: int
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
            mask: False at padding; None: there is no padding. Models with a causal text side ignore it.
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
            InputError: the model's tokenizer is missing; the message says where to get it.
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
        """Resize, centre-crop and normalise uint8 RGB frames as the official code does."""
        return transform(frames, self.clip)[0]


class FrameModel(PublishedModel):
    """A published image–text model: frames are embedded one by one.

    A clip's embedding is the mean of the *unit* embeddings of its frames, as in PE's official code; the mean itself is
    not of unit length. With `normalize=False` it is the mean of the raw embeddings.
    """

    def frame_features(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features"]:
        """Return the features of images before the projection into the joint space."""
        raise NotImplementedError

    def encode_image(
        self, images: Float[Tensor, "images 3 height width"], normalize: bool = True
    ) -> Float[Tensor, "images dim"]:
        """Embed single images, scaled to unit length with `normalize`."""
        embedding = self.project_video(self.frame_features(images))
        return functional.normalize(embedding, dim=-1) if normalize else embedding

    def encode_video(
        self, pixels: Float[Tensor, "batch frames colours height width"], normalize: bool = True
    ) -> Float[Tensor, "batch dim"]:
        """Average the embeddings of each clip's frames, each scaled to unit length with `normalize`.

        Clips may have any number of frames.
        """
        check_layout(pixels)
        return self.encode_image(pixels.flatten(0, 1), normalize).unflatten(0, pixels.shape[:2]).mean(1)

    def video_features(self, pixels: Float[Tensor, "batch frames 3 height width"]) -> Float[Tensor, "batch features"]:
        """Return the mean of the frames' features."""
        return self.frame_features(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2]).mean(1)


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
    """Assign the tensors of a checkpoint to a model that was built on the meta device; float32 tensors are not copied.

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


@dataclass(frozen=True)
class VisionSizes:
    """Sizes of a vision transformer, all but the heads read from the shapes of its weights.

    Attributes:
        image_size: side of a frame in pixels.
        patch: side of a patch in pixels.
        width, layers, heads, hidden: of the transformer; `hidden` is that of its MLPs.
    """

    image_size: int
    patch: int
    width: int
    layers: int
    heads: int
    hidden: int


def vision_sizes(
    file: Checkpoint,
    sizes: Mapping[str, Any] | None,
    *,
    blocks: str,
    mlp: str,
    patches: Tensor,
    positions: int,
    released_heads: Mapping[int, int],
    **others: int,
) -> VisionSizes:
    """Read the sizes of a vision transformer from the shapes of its weights, and compare them with the user's.

    Args:
        file: the checkpoint.
        sizes: sizes given by the user; see `load_published`.
        blocks: prefix of the numbered blocks.
        mlp: name of the first MLP weight inside a block.
        patches: weight of the patch convolution, `[width, 3, ..., patch, patch]`.
        positions: patches in a frame.
        released_heads: heads of the released models by their width.
        others: further sizes by their key, compared with the user's.

    Raises:
        InputError: a size of the user's differs, or the number of heads is unknown.
    """
    width, patch = patches.shape[0], patches.shape[-1]
    image_size = patch * round(positions**0.5)
    layers = count_layers(file.tensors, blocks)
    found = {"image_size": image_size, "patch_size": patch, "vision_width": width, "vision_layers": layers}
    check_sizes(sizes, found | others, file.path)
    need(file, (f"{blocks}.0.{mlp}",), "this kind")
    hidden = file.tensors[f"{blocks}.0.{mlp}"].shape[0]
    return VisionSizes(image_size, patch, width, layers, heads_of(width, sizes, "vision_heads", released_heads), hidden)


def heads_of(width: int, sizes: Mapping[str, Any] | None, key: str, released: Mapping[int, int]) -> int:
    """Return the number of attention heads, which no checkpoint holds.

    Args:
        width: feature dimension of the transformer.
        sizes: the user's sizes; `key` in it wins.
        released: heads of the released models by their width.

    Raises:
        InputError: neither gives the number, or it does not divide the width.
    """
    heads = (sizes or {}).get(key, released.get(width))
    if heads is None:
        raise InputError(
            f"no released model is {width} wide, and no checkpoint holds the number of heads: give "
            f"sizes={{'{key}': N, …}}, on the command line in a .json file beside the weights, of the same name; "
            f"released widths: {', '.join(map(str, released))}"
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


def need(file: Checkpoint, names: tuple[str, ...], kind: str) -> None:
    """Refuse a checkpoint of another family, which lacks one of the names that this family always has.

    Raises:
        InputError: a name is missing.
    """
    if missing := [name for name in names if name not in file.tensors]:
        raise InputError(
            f"{file.path} is not a checkpoint of {kind}: it lacks {missing[0]}; it holds "
            f"{', '.join(sorted(file.tensors)[:3])}, …"
        )
