"""Divided space-time attention as the paper describes it (arXiv 2102.05095, section 3), token by token, in float64.

Weights have the names of the original repository. Slow, and written without a look at any model's code in use.
"""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def random_weights(
    width: int = 24, depth: int = 2, patch: int = 4, frames: int = 3, pixels: int = 12, classes: int = 5
) -> Weights:
    """Return random weights of a small model, none of them zero, in float32."""
    places = (pixels // patch) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, places + 1, width),
        "time_embed": (1, frames, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (classes, width),
        "head.bias": (classes,),
    }
    for block in range(depth):
        linears = {"temporal_fc": (width, width), "mlp.fc1": (2 * width, width), "mlp.fc2": (width, 2 * width)}
        for attention in ("attn", "temporal_attn"):
            linears |= {f"{attention}.qkv": (3 * width, width), f"{attention}.proj": (width, width)}
        for name, (out, into) in linears.items():
            shapes |= {f"blocks.{block}.{name}.weight": (out, into), f"blocks.{block}.{name}.bias": (out,)}
        for name in ("norm1", "temporal_norm1", "norm2"):
            shapes |= {f"blocks.{block}.{name}.weight": (width,), f"blocks.{block}.{name}.bias": (width,)}
    # Linear maps keep the size of what they map, so that each part of a block moves the result.
    scale = {name: shape[-1] ** -0.5 if len(shape) == 2 else 1.0 for name, shape in shapes.items()}
    return {name: scale[name] * torch.randn(shape) for name, shape in shapes.items()}


def class_token(weights: Weights, clip: Tensor, heads: int) -> Tensor:
    """Return the class token of one clip [frames, 3, pixels, pixels] after the last norm."""
    w = {name: value.double() for name, value in weights.items()}
    kernel = w["patch_embed.proj.weight"]
    patch = kernel.shape[-1]
    side = clip.shape[-1] // patch
    depth = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))
    cls = w["cls_token"][0, 0] + w["pos_embed"][0, 0]
    tokens: dict[tuple[int, int], Tensor] = {}  # (frame, place) → token
    for frame, image in enumerate(clip.double()):
        for place in range(side * side):
            row, column = divmod(place, side)
            square = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            token = torch.stack([(square * kernel[k]).sum() for k in range(len(kernel))]) + w["patch_embed.proj.bias"]
            tokens[frame, place] = token + w["pos_embed"][0, 1 + place] + w["time_embed"][0, frame]
    for block in range(depth):
        b = {name.removeprefix(f"blocks.{block}."): value for name, value in w.items()}
        cls, tokens = _block(b, cls, tokens, len(clip), side * side, heads)
    return _norm(cls, w["norm.weight"], w["norm.bias"])


def _block(
    b: Weights, cls: Tensor, tokens: dict[tuple[int, int], Tensor], frames: int, places: int, heads: int
) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    after_time = {}
    for place in range(places):  # the same place in all frames
        line = [
            _norm(tokens[frame, place], b["temporal_norm1.weight"], b["temporal_norm1.bias"]) for frame in range(frames)
        ]
        for frame, change in enumerate(_attention(b, "temporal_attn", line, heads)):
            after_time[frame, place] = tokens[frame, place] + _linear(b, "temporal_fc", change)
    after_space, votes = {}, []
    for frame in range(frames):  # all places of a frame, with the class token of the whole clip
        picture = [cls, *(after_time[frame, place] for place in range(places))]
        picture = [_norm(token, b["norm1.weight"], b["norm1.bias"]) for token in picture]
        vote, *changes = _attention(b, "attn", picture, heads)
        votes.append(vote)
        for place, change in enumerate(changes):
            after_space[frame, place] = after_time[frame, place] + change
    cls = cls + torch.stack(votes).mean(0)
    return _mlp(b, cls), {key: _mlp(b, token) for key, token in after_space.items()}


def _attention(b: Weights, name: str, tokens: list[Tensor], heads: int) -> list[Tensor]:
    width = len(tokens[0])
    size = width // heads
    triples = [_linear(b, f"{name}.qkv", token) for token in tokens]
    out = []
    for triple in triples:
        parts = []
        for head in range(heads):
            query = triple[head * size : (head + 1) * size]
            keys = [other[width + head * size : width + (head + 1) * size] for other in triples]
            values = [other[2 * width + head * size : 2 * width + (head + 1) * size] for other in triples]
            odds = [math.exp(float(query @ key) / math.sqrt(size)) for key in keys]
            parts.append(sum(odd / sum(odds) * value for odd, value in zip(odds, values, strict=True)))
        out.append(_linear(b, f"{name}.proj", torch.cat(parts)))
    return out


def _mlp(b: Weights, token: Tensor) -> Tensor:
    hidden = _linear(b, "mlp.fc1", _norm(token, b["norm2.weight"], b["norm2.bias"]))
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return token + _linear(b, "mlp.fc2", hidden)


def _linear(b: Weights, name: str, token: Tensor) -> Tensor:
    return b[f"{name}.weight"] @ token + b[f"{name}.bias"]


def _norm(token: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = token - token.mean()
    return centred / torch.sqrt(centred.square().mean() + 1e-6) * weight + bias
