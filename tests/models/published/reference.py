"""Forward passes of the published models, written from their descriptions with functions alone: slow, and independent.

Attention is computed over all pairs of tokens with a mask, rotations with complex numbers, layers one by one.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, layer_norm, linear

State = dict[str, Tensor]
Act = Callable[[Tensor], Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def exact_gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def dense(state: State, name: str, x: Tensor) -> Tensor:
    return linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention of `[batch, tokens, width]`; True in the mask `[queries, keys]` or `[batch, 1, 1, keys]` is seen."""
    parts = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)]
    scores = parts[0] @ parts[1].transpose(-1, -2) / math.sqrt(parts[0].shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return (scores.softmax(-1) @ parts[2]).transpose(1, 2).flatten(2)


def stacked(state: State, name: str, x: Tensor, heads: int, mask: Tensor | None = None, clip: bool = False) -> Tensor:
    """Self-attention with stacked queries, keys and values, named as timm does or as CLIP does."""
    names = ("in_proj_weight", "in_proj_bias", "out_proj") if clip else ("qkv.weight", "qkv.bias", "proj")
    qkv = linear(x, state[f"{name}.{names[0]}"], state.get(f"{name}.{names[1]}"))
    return dense(state, f"{name}.{names[2]}", attend(*qkv.chunk(3, -1), heads, mask))


def patches(weight: Tensor, bias: Tensor | None, frames: Tensor) -> Tensor:
    return conv2d(frames, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)


def clip_blocks(state: State, name: str, x: Tensor, heads: int, act: Act, eps: float, mask: Tensor | None) -> Tensor:
    layer = 0
    while f"{name}.{layer}.ln_1.weight" in state:
        block = f"{name}.{layer}."
        x = x + stacked(state, f"{block}attn", norm(state, f"{block}ln_1", x, eps), heads, mask, clip=True)
        hidden = act(dense(state, f"{block}mlp.c_fc", norm(state, f"{block}ln_2", x, eps)))
        x = x + dense(state, f"{block}mlp.c_proj", hidden)
        layer += 1
    return x


def space_time(state: State, name: str, clips: Tensor, heads: int, act: Act, eps: float) -> Tensor:
    """Frozen in Time's vision transformer, as LaViLa and EgoVLP have it; the class token after the norm."""
    batch, times = clips.shape[:2]
    weight, bias = state[f"{name}patch_embed.proj.weight"], state.get(f"{name}patch_embed.proj.bias")
    found = patches(weight, bias, clips.flatten(0, 1)).unflatten(0, (batch, times))
    places = found.shape[2]
    position, temporal = state[f"{name}pos_embed"][0], state[f"{name}temporal_embed"][0]
    tokens = [(state[f"{name}cls_token"][0, 0] + position[0]).expand(batch, -1)]
    for time in range(times):
        tokens += [found[:, time, patch] + position[1 + patch] + temporal[time] for patch in range(places)]
    x = torch.stack(tokens, 1)
    if f"{name}ln_pre.weight" in state:
        x = norm(state, f"{name}ln_pre", x, 1e-5)
    time_of = torch.arange(times).repeat_interleave(places)
    place_of = torch.arange(places).repeat(times)
    masks = {}
    for key, group in (("timeattn", place_of), ("attn", time_of)):
        mask = torch.ones(1 + len(group), 1 + len(group), dtype=torch.bool)
        mask[1:, 1:] = group[:, None] == group
        masks[key] = mask
    layer = 0
    while f"{name}blocks.{layer}.norm1.weight" in state:
        block = f"{name}blocks.{layer}."
        t = stacked(state, f"{block}timeattn", norm(state, f"{block}norm3", x, eps), heads, masks["timeattn"])
        y = x + stacked(state, f"{block}attn", norm(state, f"{block}norm1", x + t, eps), heads, masks["attn"])
        hidden = act(dense(state, f"{block}mlp.fc1", norm(state, f"{block}norm2", y, eps)))
        x = y + dense(state, f"{block}mlp.fc2", hidden)
        layer += 1
    return norm(state, f"{name}norm", x, eps)[:, 0]


def avion_video(state: State, clips: Tensor, heads: int) -> Tensor:
    batch, times = clips.shape[:2]
    width = len(state["visual.class_embedding"])
    side = math.isqrt(state["visual.conv1.weight"].shape[1] // 3)
    weight = state["visual.conv1.weight"].reshape(width, 3, side, side)
    found = patches(weight, None, clips.flatten(0, 1)).unflatten(0, (batch, times))
    position = state["visual.positional_embedding"]
    found = found + position[1:] + state["visual.temporal_embedding"][:, None]
    first = (state["visual.class_embedding"] + position[0]).expand(batch, 1, -1)
    x = norm(state, "visual.ln_pre", torch.cat([first, found.flatten(1, 2)], 1), 1e-6)
    plain = {name.replace("Wqkv.", "in_proj_"): value for name, value in state.items()}
    plain = {name.replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj"): v for name, v in plain.items()}
    x = clip_blocks(plain, "visual.transformer.resblocks", x, heads, exact_gelu, 1e-6, None)
    return norm(state, "visual.ln_post", x, 1e-6)[:, 0] @ state["visual.image_projection"]


def clip_text(state: State, name: str, ids: Tensor, heads: int, act: Act) -> Tensor:
    x = state[f"{name}token_embedding.weight"][ids] + state[f"{name}positional_embedding"][: ids.shape[1]]
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    x = norm(
        state, f"{name}ln_final", clip_blocks(state, f"{name}transformer.resblocks", x, heads, act, 1e-5, causal), 1e-5
    )
    return (
        torch.stack([row[int(tokens.argmax())] for row, tokens in zip(x, ids, strict=True)])
        @ state[f"{name}text_projection"]
    )


def bert_text(
    state: State, name: str, ids: Tensor, mask: Tensor, heads: int, eps: float, layers: int, positions: Tensor
) -> Tensor:
    """The first token of BERT or RoBERTa after some layers."""
    x = state[f"{name}embeddings.word_embeddings.weight"][ids]
    x = x + state[f"{name}embeddings.position_embeddings.weight"][positions]
    x = norm(state, f"{name}embeddings.LayerNorm", x + state[f"{name}embeddings.token_type_embeddings.weight"][0], eps)
    for layer in range(layers):
        block = f"{name}encoder.layer.{layer}."
        parts = [dense(state, f"{block}attention.self.{part}", x) for part in ("query", "key", "value")]
        seen = dense(state, f"{block}attention.output.dense", attend(*parts, heads, mask[:, None, None]))
        x = norm(state, f"{block}attention.output.LayerNorm", x + seen, eps)
        hidden = dense(state, f"{block}output.dense", exact_gelu(dense(state, f"{block}intermediate.dense", x)))
        x = norm(state, f"{block}output.LayerNorm", x + hidden, eps)
    return x[:, 0]


def distilbert_text(state: State, name: str, ids: Tensor, mask: Tensor, heads: int) -> Tensor:
    x = state[f"{name}embeddings.word_embeddings.weight"][ids]
    x = x + state[f"{name}embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(state, f"{name}embeddings.LayerNorm", x, 1e-12)
    layer = 0
    while f"{name}transformer.layer.{layer}.sa_layer_norm.weight" in state:
        block = f"{name}transformer.layer.{layer}."
        parts = [dense(state, f"{block}attention.{part}", x) for part in ("q_lin", "k_lin", "v_lin")]
        seen = dense(state, f"{block}attention.out_lin", attend(*parts, heads, mask[:, None, None]))
        x = norm(state, f"{block}sa_layer_norm", x + seen, 1e-12)
        hidden = dense(state, f"{block}ffn.lin2", exact_gelu(dense(state, f"{block}ffn.lin1", x)))
        x = norm(state, f"{block}output_layer_norm", x + hidden, 1e-12)
        layer += 1
    return x[:, 0]


def egovideo_video(state: State, clips: Tensor, heads: int, pool_heads: int) -> Tensor:
    def rms(name: str, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * state[f"{name}.weight"]

    batch, times = clips.shape[:2]
    weight = state["visual.patch_embed.proj.weight"][:, :, 0]
    found = patches(weight, state["visual.patch_embed.proj.bias"], clips.flatten(0, 1))
    found = found.unflatten(0, (batch, times)).flatten(1, 2)
    x = torch.cat([state["visual.cls_token"].expand(batch, -1, -1), found], 1) + state["visual.pos_embed"]
    layer = 0
    while f"visual.blocks.{layer}.norm1.weight" in state:
        block = f"visual.blocks.{layer}."
        query, key, value = linear(rms(f"{block}norm1", x), state[f"{block}attn.qkv.weight"]).chunk(3, -1)
        # Normalised over all heads together.
        seen = attend(rms(f"{block}attn.q_norm", query), rms(f"{block}attn.k_norm", key), value, heads)
        x = x + state[f"{block}ls1.gamma"] * dense(state, f"{block}attn.proj", seen)
        hidden = tanh_gelu(dense(state, f"{block}mlp.fc1", rms(f"{block}norm2", x)))
        x = x + state[f"{block}ls2.gamma"] * dense(state, f"{block}mlp.fc2", hidden)
        layer += 1
    pool = "visual.clip_projector."
    parts = []
    for part, source in (("q", x.mean(1, keepdim=True)), ("k", x), ("v", x)):
        normed = norm(state, f"{pool}norm1_{part}", source, 1e-5)
        parts.append(dense(state, f"{pool}cross_attn.{part}", normed) + state[f"{pool}cross_attn.{part}_bias"])
    return dense(state, f"{pool}cross_attn.proj", attend(*parts, pool_heads))[:, 0] @ state["image_projection"]


def pe_image(state: State, images: Tensor, heads: int) -> Tensor:
    found = patches(state["visual.conv1.weight"], None, images)
    side = math.isqrt(found.shape[1])
    has_class = "visual.class_embedding" in state
    if has_class:
        found = torch.cat([state["visual.class_embedding"].expand(len(found), 1, -1), found], 1)
    x = norm(state, "visual.ln_pre", found + state["visual.positional_embedding"], 1e-5)
    dim = x.shape[-1] // heads
    frequency = torch.tensor([10000.0 ** (-j / (dim // 4)) for j in range(dim // 4)], dtype=x.dtype)
    first = 1 if has_class else 0
    turns = [torch.zeros(dim // 2, dtype=x.dtype)] * first
    for row in range(side):
        turns += [torch.cat([(column + first) * frequency, (row + first) * frequency]) for column in range(side)]
    turn = torch.polar(torch.ones(len(turns), dim // 2, dtype=x.dtype), torch.stack(turns))

    def rotate(part: Tensor) -> Tensor:
        pairs = torch.view_as_complex(part.unflatten(-1, (heads, dim // 2, 2)).contiguous())
        return torch.view_as_real(pairs * turn[:, None]).flatten(-3)

    layer = 0
    while f"visual.transformer.resblocks.{layer}.ln_1.weight" in state:
        block = f"visual.transformer.resblocks.{layer}."
        normed = norm(state, f"{block}ln_1", x, 1e-5)
        query, key, value = linear(
            normed, state[f"{block}attn.in_proj_weight"], state[f"{block}attn.in_proj_bias"]
        ).chunk(3, -1)
        x = x + dense(state, f"{block}attn.out_proj", attend(rotate(query), rotate(key), value, heads))
        hidden = exact_gelu(dense(state, f"{block}mlp.c_fc", norm(state, f"{block}ln_2", x, 1e-5)))
        x = x + dense(state, f"{block}mlp.c_proj", hidden)
        layer += 1
    z = pooled(state, "visual.attn_pool.", norm(state, "visual.ln_post", x, 1e-5))
    return z @ state["visual.proj"]


def pooled(state: State, name: str, x: Tensor) -> Tensor:
    """PE's attention pool: 8 heads, the probe is not added."""
    weights, biases = state[f"{name}attn.in_proj_weight"].chunk(3), state[f"{name}attn.in_proj_bias"].chunk(3)
    query = state[f"{name}probe"].expand(len(x), -1, -1)
    parts = [linear(part, w, b) for part, w, b in zip((query, x, x), weights, biases, strict=True)]
    z = dense(state, f"{name}attn.out_proj", attend(*parts, 8))
    hidden = exact_gelu(dense(state, f"{name}mlp.c_fc", norm(state, f"{name}layernorm", z, 1e-5)))
    return (z + dense(state, f"{name}mlp.c_proj", hidden))[:, 0]


def siglip_image(state: State, images: Tensor, heads: int) -> Tensor:
    trunk = "visual.trunk."
    x = patches(state[f"{trunk}patch_embed.proj.weight"], state[f"{trunk}patch_embed.proj.bias"], images)
    x = x + state[f"{trunk}pos_embed"]
    layer = 0
    while f"{trunk}blocks.{layer}.norm1.weight" in state:
        block = f"{trunk}blocks.{layer}."
        x = x + stacked(state, f"{block}attn", norm(state, f"{block}norm1", x, 1e-6), heads)
        hidden = exact_gelu(dense(state, f"{block}mlp.fc1", norm(state, f"{block}norm2", x, 1e-6)))
        x = x + dense(state, f"{block}mlp.fc2", hidden)
        layer += 1
    x, pool = norm(state, f"{trunk}norm", x, 1e-6), f"{trunk}attn_pool."
    query = dense(state, f"{pool}q", state[f"{pool}latent"].expand(len(x), -1, -1))
    z = dense(state, f"{pool}proj", attend(query, *dense(state, f"{pool}kv", x).chunk(2, -1), heads))
    hidden = exact_gelu(dense(state, f"{pool}mlp.fc1", norm(state, f"{pool}norm", z, 1e-6)))
    return (z + dense(state, f"{pool}mlp.fc2", hidden))[:, 0]


def siglip_text(state: State, ids: Tensor, heads: int) -> Tensor:
    x = state["text.token_embedding.weight"][ids] + state["text.positional_embedding"]
    x = clip_blocks(state, "text.transformer.resblocks", x, heads, tanh_gelu, 1e-6, None)  # pads are attended to
    return dense(state, "text.text_projection", norm(state, "text.ln_final", x, 1e-6)[:, -1])
