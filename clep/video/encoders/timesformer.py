"""TimeSformer: divided space-time attention over the frames of a clip."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from clep.errors import InputError
from clep.video.encoder import ClipSpec, VideoEncoder
from clep.video.encoders.frozen import check_pixels, encoder_name, freeze, with_size
from clep.video.encoders.hub import (
    checkpoint_layers,
    load_model,
    model_config,
    plain_config,
    read_weights,
    refuse_misfit,
    square,
)
from clep.weights import local_weights

if TYPE_CHECKING:
    from transformers import TimesformerConfig

Positions = Literal["grid", "flat"]

# Original name → name in transformers, for what lies outside and inside of a block.
_STEM = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "time_embed": "embeddings.time_embeddings",
    "norm": "layernorm",
}
_BLOCK = {
    "norm1": "layernorm_before",
    "attn.qkv": "attention.attention.qkv",
    "attn.proj": "attention.output.dense",
    "temporal_norm1": "temporal_layernorm",
    "temporal_attn.qkv": "temporal_attention.attention.qkv",
    "temporal_attn.proj": "temporal_attention.output.dense",
    "temporal_fc": "temporal_dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_PATCHES, _TIMES, _POSITIONS = (
    f"embeddings.{name}" for name in ("patch_embeddings.projection.weight", "time_embeddings", "position_embeddings")
)
_OFFICIAL_PATCHES = "patch_embed.proj.weight"
_CLASSIFIER = re.compile(r"(.*\.)?(head|classifier)\.(weight|bias)$")


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a TimeSformer file under the names of transformers' `TimesformerModel`, without classifier.

    The file is a `.pyth` of the original repository, `{"model_state": {"model.blocks.0…": tensor}}`, or has its weights
    under "state_dict" or "model" or at the top, with any prefix, under the original names or those of transformers. It
    is mapped into memory, so that an optimiser's state in it costs nothing.

    Raises:
        InputError: the file is missing, truncated, holds more than data, or is no TimeSformer with divided attention.
    """
    found = read_weights(path)
    for key in ("model_state", "state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InputError(f"{path} is not a TimeSformer checkpoint: it holds no weights by name")
    state = {key: value for key, value in found.items() if isinstance(value, Tensor) and not _CLASSIFIER.match(key)}
    for first_weight, convert in ((_OFFICIAL_PATCHES, True), (_PATCHES, False)):
        prefixes = [key.removesuffix(first_weight) for key in state if key.endswith(first_weight)]
        if prefixes:
            named = {key.removeprefix(prefixes[0]): value for key, value in state.items()}
            named = {_transformers_name(key): value for key, value in named.items()} if convert else named
            _check_kind(named, path)
            return named
    raise InputError(f"{path} is not a TimeSformer checkpoint: it has no {_OFFICIAL_PATCHES}")


def architecture(state: dict[str, Tensor], path: str | Path) -> dict[str, Any]:
    """Return the arguments of `TimesformerConfig` that follow from shapes: all but the number of heads.

    Args:
        state: as `read_checkpoint` returns it.
        path: of the file, for messages.

    Raises:
        InputError: a weight that shows the architecture is missing or of another rank, or the patches are no square.
    """
    needed = {_PATCHES: 4, _TIMES: 3, _POSITIONS: 3, "encoder.layer.0.intermediate.dense.weight": 2}
    for name, rank in needed.items():
        if name not in state or state[name].ndim != rank:
            raise InputError(f"{path} is not a TimeSformer checkpoint: {name} is missing or has not {rank} dimensions")
    blocks = {int(match[1]) for key in state if (match := re.match(r"encoder\.layer\.(\d+)\.", key))}
    width, channels, patch, patch_wide = state[_PATCHES].shape
    patches = state[_POSITIONS].shape[1] - 1
    if channels != 3 or patch != patch_wide or math.isqrt(patches) ** 2 != patches:
        raise InputError(
            f"{path} is for {channels} channels and {patches} patches of {patch}x{patch_wide}, not for square RGB"
        )
    return {
        "hidden_size": width,
        "num_hidden_layers": max(blocks) + 1,
        "intermediate_size": state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "patch_size": patch,
        "image_size": math.isqrt(patches) * patch,
        "num_frames": state[_TIMES].shape[1],
        "qkv_bias": "encoder.layer.0.attention.attention.qkv.bias" in state,
    }


def resize_embeddings(
    state: dict[str, Tensor], frames: int, patches_per_side: int, positions: Positions = "grid"
) -> dict[str, Tensor]:
    """Return the weights with time and position embeddings for another clip, each the nearest of the old ones.

    Args:
        state: as `read_checkpoint` returns it.
        frames: of the new clip.
        patches_per_side: of the new picture.
        positions: "grid" interpolates in two dimensions, as the original model does in its forward pass and as
            transformers does. "flat" interpolates along the flattened patches, as the original repository does when it
            loads a checkpoint of another size, which mixes up positions; only for rows that must equal those of the
            published scripts.
    """
    times, embedding = state[_TIMES], state[_POSITIONS]
    if times.shape[1] != frames:
        times = interpolate(times.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)
    if embedding.shape[1] - 1 != patches_per_side**2:
        old = embedding[:, 1:].transpose(1, 2)
        if positions == "flat":
            new = interpolate(old, size=patches_per_side**2, mode="nearest")
        else:
            side = math.isqrt(old.shape[2])
            plane = old.unflatten(2, (side, side))
            new = interpolate(plane, size=(patches_per_side, patches_per_side), mode="nearest").flatten(2)
        embedding = torch.cat([embedding[:, :1], new.transpose(1, 2)], dim=1)
    return state | {_TIMES: times.contiguous(), _POSITIONS: embedding.contiguous()}


def _transformers_name(name: str) -> str:
    stem, _, kind = name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
    ending = f".{kind}" if kind else ""
    if stem in _STEM:
        return _STEM[stem] + ending
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if match and match[2] in _BLOCK:
        return f"encoder.layer.{match[1]}.{_BLOCK[match[2]]}{ending}"
    return name  # unknown: reported as unexpected under its name in the file


def _check_kind(state: dict[str, Tensor], path: str | Path) -> None:
    if not any(".temporal_attention." in name for name in state):
        raise InputError(
            f"{path} has no temporal attention: it is an image model, or a TimeSformer with joint or space-only "
            f"attention; give one with divided space-time attention (divST)"
        )


_MEAN, _STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
_HEAD_DIM = 64


class TimeSformer(VideoEncoder):
    """TimeSformer (Bertasius et al. 2021, arXiv 2102.05095); a row is the class token after the last norm.

    Args:
        weights: a hub name ("facebook/timesformer-base-finetuned-k400"), the folder of a downloaded model, a
            checkpoint file of the original repository (`.pyth`), or the URL of a folder or file.
        frames, crop_px: frames and side of the clips to encode. None: those of the checkpoint. For others, its time and
            position embeddings are resized.
        width, depth, heads: the expected architecture, TimeSformer-B by default; any other one is refused.
            None accepts any. The shapes in a `.pyth` do not show the heads: None assumes heads of dimension 64.
        positions: how position embeddings are resized, see `resize_embeddings`.
        name: name for the bank; None derives one.
        architecture: arguments of `TimesformerConfig`, for a model whose weights are loaded afterwards; `weights` is
            then not read.

    Raises:
        InputError: the weights do not exist, cannot be read, or are of another architecture.

    Examples:
        The folder `timesformer` holds a tiny model with random weights.

        >>> import torch
        >>> from clep.video.encoders import TimeSformer
        >>> encoder = TimeSformer("timesformer", width=None, depth=None, heads=None)
        >>> encoder.clip.frames, encoder.clip.crop_px
        (4, 16)
        >>> encoder(torch.zeros(2, 4, 3, 16, 16)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        weights: str,
        frames: int | None = None,
        crop_px: int | None = None,
        width: int | None = 768,
        depth: int | None = 12,
        heads: int | None = 12,
        positions: Positions = "grid",
        name: str | None = None,
        architecture: dict[str, Any] | None = None,
    ):
        super().__init__()
        weights = local_weights(weights) if architecture is None else weights
        is_file = architecture is None and Path(weights).expanduser().is_file()
        if architecture is not None:
            config, state = _untrained(architecture)
        else:
            config, state = _from_file(weights, heads) if is_file else _from_transformers(weights)
        asked = {"width": width, "depth": depth, "heads": heads}
        has = {"width": config.hidden_size, "depth": config.num_hidden_layers, "heads": config.num_attention_heads}
        for key, value in asked.items():
            if value not in (None, has[key]):
                raise InputError(
                    f"weights={weights} has {key} {has[key]}, not {value}; give {key}={has[key]}, or other weights"
                )
        own = (config.num_frames, square(config.image_size, weights))
        frames = own[0] if frames is None else frames
        crop_px = own[1] if crop_px is None else crop_px
        patch = square(config.patch_size, weights)
        if crop_px % patch:
            raise InputError(f"crop_px={crop_px} is not a multiple of {patch}, the patch size of weights={weights}")
        self.clip = ClipSpec(frames, crop_px, crop_px, _MEAN, _STD)
        self.dim = config.hidden_size
        derived = with_size(encoder_name(weights, ("facebook",)), frames, crop_px, own)
        if is_file and config.num_attention_heads * _HEAD_DIM != config.hidden_size:
            derived += f"-heads{config.num_attention_heads}"
        if crop_px != own[1] and positions == "flat":
            derived += "-flat"
        self.name = name or derived
        config.num_frames, config.image_size = frames, crop_px
        self.model = _model(config, resize_embeddings(state, frames, crop_px // patch, positions), weights)
        freeze(self)

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode normalised clips, one row each.

        Raises:
            InputError: the clips have another number of frames or pixels than the encoder was built for.
        """
        check_pixels(pixels, self)
        tokens = self.model.encoder(self.model.embeddings(pixels))[0]
        return self.model.layernorm(tokens[:, 0])  # the norm acts on each token separately

    def spatial(
        self, pixels: Float[Tensor, "clips frames 3 height width"]
    ) -> Float[Tensor, "clips dim times rows columns"]:
        """Return the token of each patch of each frame after the last norm."""
        check_pixels(pixels, self)
        tokens = self.model.layernorm(self.model.encoder(self.model.embeddings(pixels))[0][:, 1:])
        side = self.clip.crop_px // square(self.model.config.patch_size, self.name)
        # The model keeps the frames of a patch together.
        return tokens.unflatten(1, (side, side, self.clip.frames)).permute(0, 4, 3, 1, 2)

    def stages(self) -> list[tuple[str, ...]]:
        """Return the embeddings and each block, the last one with the norm after it."""
        blocks = [(f"model.encoder.layer.{block}",) for block in range(len(self.model.encoder.layer))]
        return [("model.embeddings",), *blocks[:-1], (*blocks[-1], "model.layernorm")]

    def checkpoint_activations(self) -> None:
        """Recompute each block for the gradient."""
        checkpoint_layers(self.model)

    def architecture(self) -> dict[str, Any]:
        """Return the config that builds this model without its weights."""
        any_size = dict.fromkeys(("width", "depth", "heads"))
        return {
            "_target_": "clep.video.encoders.TimeSformer",
            "weights": self.name,
            "name": self.name,
            **any_size,
            "architecture": plain_config(self.model.config),
        }


class _FusedAttention(nn.Module):
    """Self-attention of TimesformerSelfAttention by one kernel, which keeps no matrix of tokens by tokens."""

    def __init__(self, attention: Any):
        super().__init__()
        self.qkv, self.heads = attention.qkv, attention.num_heads

    def forward(
        self, hidden_states: Float[Tensor, "sequences tokens dim"], output_attentions: bool = False
    ) -> tuple[Float[Tensor, "sequences tokens dim"]]:
        """Return a tuple of one, as the layers of transformers expect."""
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return (scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2),)


def _from_transformers(weights: str) -> tuple["TimesformerConfig", dict[str, Tensor]]:
    from transformers import TimesformerModel

    location, said = model_config(weights, ("timesformer",))
    if said.get("attention_type", "divided_space_time") != "divided_space_time":
        raise InputError(
            f"weights={weights} has {said['attention_type']} attention; only divided_space_time is supported"
        )
    model = load_model(TimesformerModel, location, unused=r"classifier\.")
    return model.config, model.state_dict()


def _untrained(architecture: dict[str, Any]) -> tuple["TimesformerConfig", dict[str, Tensor]]:
    from transformers import TimesformerConfig, TimesformerModel

    config = TimesformerConfig(**architecture)
    return config, TimesformerModel(config).state_dict()


def _from_file(weights: str, heads: int | None) -> tuple["TimesformerConfig", dict[str, Tensor]]:
    from transformers import TimesformerConfig

    state = read_checkpoint(Path(weights).expanduser())
    shape = architecture(state, weights)
    width = shape["hidden_size"]
    heads = heads or max(width // _HEAD_DIM, 1)
    if heads < 1 or width % heads:
        raise InputError(f"weights={weights} has width {width}, not a multiple of heads={heads}; give its heads")
    return TimesformerConfig(num_attention_heads=heads, **shape), state


def _model(config: "TimesformerConfig", state: dict[str, Tensor], weights: str) -> Any:
    """Build the model around the weights, without drawing random ones first."""
    from transformers import TimesformerModel

    with torch.device("meta"):
        model: Any = TimesformerModel(config)
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    both = expected.keys() & state.keys()
    refuse_misfit(weights, missing, extra, sorted(key for key in both if expected[key].shape != state[key].shape))
    # A copy: a mapped file that is replaced while the model runs would end the process.
    model.load_state_dict({key: value.to(torch.float32, copy=True) for key, value in state.items()}, assign=True)
    for layer in model.encoder.layer:
        layer.attention.attention = _FusedAttention(layer.attention.attention)
        layer.temporal_attention.attention = _FusedAttention(layer.temporal_attention.attention)
    return model
