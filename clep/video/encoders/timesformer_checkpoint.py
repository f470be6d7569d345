"""TimeSformer's weights: the names of the original repository to those of transformers, and other clip sizes."""

import math
import pickle
import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from clep.errors import InputError

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
_PATCHES, _TIMES, _PLACES = (
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
    found = _load(Path(path))
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
    """Return what the shapes tell, as arguments of `TimesformerConfig`. The number of heads is not among it.

    Args:
        state: as `read_checkpoint` returns it.
        path: of the file, for messages.

    Raises:
        InputError: a weight that tells the architecture is missing or of another rank, or the patches are no square.
    """
    needed = {_PATCHES: 4, _TIMES: 3, _PLACES: 3, "encoder.layer.0.intermediate.dense.weight": 2}
    for name, rank in needed.items():
        if name not in state or state[name].ndim != rank:
            raise InputError(f"{path} is not a TimeSformer checkpoint: {name} is missing or has not {rank} dimensions")
    blocks = {int(match[1]) for key in state if (match := re.match(r"encoder\.layer\.(\d+)\.", key))}
    width, channels, patch, patch_wide = state[_PATCHES].shape
    patches = state[_PLACES].shape[1] - 1
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
        positions: "grid" looks for the nearest in the plane of patches, as the original model does in its forward pass
            and transformers does. "flat" looks along the row of all patches, as the original repository does when it
            loads a checkpoint of another size: a patch then gets the embedding of another place of the picture. Only
            for rows that must equal those of the published scripts.
    """
    times, places = state[_TIMES], state[_PLACES]
    if times.shape[1] != frames:
        times = interpolate(times.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)
    if places.shape[1] - 1 != patches_per_side**2:
        old = places[:, 1:].transpose(1, 2)
        if positions == "flat":
            new = interpolate(old, size=patches_per_side**2, mode="nearest")
        else:
            side = math.isqrt(old.shape[2])
            plane = old.unflatten(2, (side, side))
            new = interpolate(plane, size=(patches_per_side, patches_per_side), mode="nearest").flatten(2)
        places = torch.cat([places[:, :1], new.transpose(1, 2)], dim=1)
    return state | {_TIMES: times.contiguous(), _PLACES: places.contiguous()}


def _transformers_name(name: str) -> str:
    stem, _, kind = name.rpartition(".") if name.endswith((".weight", ".bias")) else (name, "", "")
    ending = f".{kind}" if kind else ""
    if stem in _STEM:
        return _STEM[stem] + ending
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", stem)
    if match and match[2] in _BLOCK:
        return f"encoder.layer.{match[1]}.{_BLOCK[match[2]]}{ending}"
    return name  # unknown: told as unexpected under the name it has in the file


def _check_kind(state: dict[str, Tensor], path: str | Path) -> None:
    if not any(".temporal_attention." in name for name in state):
        raise InputError(
            f"{path} has no temporal attention: it is an image model, or a TimeSformer with joint or space-only "
            f"attention; give one with divided space-time attention (divST)"
        )


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"  # files of torch before 1.6 cannot be mapped
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        asks = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(error))
        reason = f"asks to run {asks[1]} when it is loaded" if asks else "holds more than data, or is corrupt"
        raise InputError(f"{path} {reason}; only checkpoints of plain tensors are read") from error
    except Exception as error:
        # torch and safetensors raise OSError, RuntimeError, EOFError, … depending on where a broken file ends.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path} is corrupt or truncated ({reason}); fetch it again") from error
