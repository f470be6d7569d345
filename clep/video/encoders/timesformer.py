"""TimeSformer: divided space-time attention over the frames of a clip."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from clep.errors import InputError
from clep.video.encoder import ClipSpec, VideoEncoder
from clep.video.encoders.frozen import check_pixels, encoder_name, freeze, with_size
from clep.video.encoders.hub import checkpoint_layers, load_model, model_config, plain_config, refuse_misfit, square
from clep.video.encoders.timesformer_checkpoint import Positions, architecture, read_checkpoint, resize_embeddings

if TYPE_CHECKING:
    from transformers import TimesformerConfig

_MEAN, _STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
_HEAD_DIM = 64


class TimeSformer(VideoEncoder):
    """TimeSformer (Bertasius et al. 2021, arXiv 2102.05095); a row is the class token after the last norm.

    Args:
        weights: a hub name ("facebook/timesformer-base-finetuned-k400"), the folder of a downloaded model, or a
            checkpoint file of the original repository (`.pyth`).
        frames, crop_px: frames and side of the clips to encode. None: those of the checkpoint. For others, its time and
            position embeddings are resized.
        width, depth, heads: what the architecture should be, TimeSformer-B by default; a checkpoint of another one is
            refused. None accepts any. The shapes in a `.pyth` do not tell its heads: None is one for 64 of its width.
        positions: how position embeddings are resized, see `resize_embeddings`.
        name: for the bank, in place of the derived one.
        architecture: arguments of `TimesformerConfig`, for a model whose weights are loaded afterwards; `weights` is
            then not read.

    Raises:
        InputError: there are no such weights, they cannot be read, or they are of another architecture.
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
                    f"weights={weights} has {key} {has[key]}, not {value}; give other weights, or {key}={has[key]} "
                    f"where this model is meant"
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
        return self.model.layernorm(tokens[:, 0])  # a norm acts on each token alone

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

    place, said = model_config(weights, ("timesformer",))
    if said.get("attention_type", "divided_space_time") != "divided_space_time":
        raise InputError(
            f"weights={weights} has {said['attention_type']} attention; only divided_space_time is supported"
        )
    model = load_model(TimesformerModel, place, unused=r"classifier\.")
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
        raise InputError(f"weights={weights} has width {width}, which {heads} heads cannot share; give its heads")
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
