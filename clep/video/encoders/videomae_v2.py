"""VideoMAE v2's files, loaded into transformers' VideoMAE: the model's own code on the hub is never run."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clep.errors import InputError
from clep.video.encoder import VideoEncoder
from clep.video.encoders.frozen import encoder_name
from clep.video.encoders.hub import IMAGENET, read_weights, refuse_misfit
from clep.video.encoders.videomae import VideoMAE
from clep.weights import local_weights

_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
_EPS = 1e-6
_FIRST = "patch_embed.proj.weight"
_STEM = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_CLASSIFIER = re.compile(r"(head|fc_dropout)\.")


class VideoMAEv2(VideoMAE):
    """VideoMAE v2 (Wang et al. 2023, arXiv 2303.16727), all sizes; a row is the mean over all tokens, then the norm.

    Args:
        weights: a `.pth` of the original repository, or a folder with the `model.safetensors` or `pytorch_model.bin` of
            OpenGVLab's models on the hub, such a hub name ("OpenGVLab/VideoMAEv2-Base"), or a URL.
        frames, crop_px: of the clips that the weights were trained with, which the file does not hold.
        heads: attention heads, which the file does not hold; None: those of the released models by their width.
        name: name for the bank; None derives one.

    Raises:
        InputError: the weights do not exist, cannot be read, or are of another architecture.

    Examples:
        The file `videomae_v2.pth` holds a tiny model with random weights.

        >>> import torch
        >>> from clep.video.encoders import VideoMAEv2
        >>> encoder = VideoMAEv2("videomae_v2.pth", frames=4, crop_px=16, heads=2)  # or "OpenGVLab/VideoMAEv2-Base"
        >>> encoder(torch.zeros(2, 4, 3, 16, 16)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self, weights: str, frames: int = 16, crop_px: int = 224, heads: int | None = None, name: str | None = None
    ) -> None:
        VideoEncoder.__init__(self)
        weights = local_weights(weights)
        state, source = _read(weights)
        self.norm = nn.Identity()
        if "fc_norm.weight" in state:
            self.norm = nn.LayerNorm(len(state["fc_norm.weight"]), _EPS)
            self.norm.load_state_dict({leaf: state.pop(f"fc_norm.{leaf}").float() for leaf in ("weight", "bias")})
        self.model = _model(state, frames, crop_px, heads, source)
        mean, std = IMAGENET
        self._finish(weights, mean, std, name or encoder_name(weights, ("OpenGVLab",)))


def _read(weights: str) -> tuple[dict[str, Tensor], str]:
    """Return the weights by their original names, without classifier and prefix, and the file's path."""
    path = Path(weights).expanduser()
    if not path.exists():
        path = _on_hub(weights)
    elif path.is_dir():
        files = [path / name for name in ("model.safetensors", "pytorch_model.bin") if (path / name).is_file()]
        if not files:
            raise InputError(f"{path} holds neither model.safetensors nor pytorch_model.bin; give a file")
        path = files[0]
    found = read_weights(path)
    for key in ("module", "model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    names = [name for name in found if isinstance(name, str)] if isinstance(found, dict) else []
    prefix = next((name.removesuffix(_FIRST) for name in sorted(names, key=len) if name.endswith(_FIRST)), None)
    if prefix is None:
        raise InputError(f"{path} is not a VideoMAE v2 checkpoint: it has no {_FIRST}")
    state = {name.removeprefix(prefix): found[name] for name in names if name.startswith(prefix)}
    return {name: value for name, value in state.items() if not _CLASSIFIER.match(name)}, str(path)


def _on_hub(weights: str) -> Path:
    from transformers.utils import cached_file

    reason = ""
    if weights.count("/") == 1 and weights[0] not in "/.~":
        for name in ("model.safetensors", "pytorch_model.bin"):
            try:
                if found := cached_file(weights, name):
                    return Path(found)
            except (OSError, ValueError) as error:
                reason = str(error).splitlines()[0]
    raise InputError(f"weights={weights}: there is no such file, folder or model of the hub. {reason}".strip())


def _model(state: dict[str, Tensor], frames: int, crop_px: int, heads: int | None, source: str) -> Any:
    from transformers import VideoMAEConfig, VideoMAEModel

    patches, fc1 = state[_FIRST], state.get("blocks.0.mlp.fc1.weight")
    if patches.ndim != 5 or fc1 is None:
        raise InputError(f"{source} is not a VideoMAE v2 checkpoint: its patches are no tubes, or it has no blocks")
    width = patches.shape[0]
    heads = heads or _HEADS.get(width)
    if not heads or width % heads:
        raise InputError(
            f"weights={source} is {width} wide, and the file does not hold the number of heads: give heads=NUMBER"
        )
    has_last_norm = "norm.weight" in state
    config = VideoMAEConfig(
        hidden_size=width,
        intermediate_size=fc1.shape[0],
        num_hidden_layers=1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
        num_attention_heads=heads,
        image_size=crop_px,
        patch_size=patches.shape[-1],
        tubelet_size=patches.shape[2],
        num_frames=frames,
        qv_bias="blocks.0.attn.q_bias" in state,
        use_mean_pooling=not has_last_norm,
        layer_norm_eps=_EPS,
    )
    with torch.device("meta"):
        model = VideoMAEModel(config)
    renamed: dict[str, Tensor] = {}
    for name in list(state):
        renamed |= _renamed(name, state.pop(name))
    if (positions := renamed.pop("pos_embed", None)) is not None:
        model.embeddings.position_embeddings = positions
    expected = model.state_dict()
    reshaped = [key for key in expected.keys() & renamed.keys() if expected[key].shape != renamed[key].shape]
    refuse_misfit(source, sorted(expected.keys() - renamed.keys()), sorted(renamed.keys() - expected.keys()), reshaped)
    model.load_state_dict({name: value.float() for name, value in renamed.items()}, assign=True)
    return model


def _renamed(name: str, value: Tensor) -> dict[str, Tensor]:
    """Return a weight under its name in transformers; stacked queries, keys and values are three weights there."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if found is None:
        module, _, leaf = name.rpartition(".")
        return {f"{_STEM[module]}.{leaf}" if module in _STEM else name: value}
    layer, inner = f"encoder.layer.{found[1]}.", found[2]
    attention = f"{layer}attention.attention."
    if inner == "attn.qkv.weight":
        return {f"{attention}{part}.weight": piece for part, piece in zip(_QKV, value.chunk(3), strict=True)}
    if inner in ("attn.q_bias", "attn.v_bias"):
        return {f"{attention}{'query' if inner == 'attn.q_bias' else 'value'}.bias": value}
    module, _, leaf = inner.rpartition(".")
    return {f"{layer}{_BLOCK[module]}.{leaf}" if module in _BLOCK else name: value}


_QKV = ("query", "key", "value")
