"""Tiny random checkpoints in the official layouts, made here: names, wrappers and odd shapes of each family."""

import argparse
from pathlib import Path
from typing import Any

import torch

FRAMES, SIZE, PATCH, WIDTH, DIM = 4, 32, 8, 16, 24
VOCABULARY, TEXT_WIDTH = 200, 32
SIZES = {"vision_heads": 2, "text_heads": 2, "frames": FRAMES, "image_size": SIZE}


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) * 0.3


def linear(name: str, out: int, into: int, bias: bool = True) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": random(out, into)} | ({f"{name}.bias": random(out)} if bias else {})


def norm(name: str, width: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": 1 + random(width), f"{name}.bias": random(width)}


def space_time(prefix: str, layers: int = 2, ln_pre: bool = False, bias: bool = True) -> dict[str, torch.Tensor]:
    """The video side of LaViLa, EgoVLP and EgoVLPv2."""
    state = {
        f"{prefix}cls_token": random(1, 1, WIDTH),
        f"{prefix}pos_embed": random(1, (SIZE // PATCH) ** 2 + 1, WIDTH),
        f"{prefix}temporal_embed": random(1, FRAMES, WIDTH),
        f"{prefix}patch_embed.proj.weight": random(WIDTH, 3, PATCH, PATCH),
    } | norm(f"{prefix}norm", WIDTH)
    state |= {f"{prefix}patch_embed.proj.bias": random(WIDTH)} if bias else {}
    state |= norm(f"{prefix}ln_pre", WIDTH) if ln_pre else {}
    for layer in range(layers):
        block = f"{prefix}blocks.{layer}."
        for part in ("attn", "timeattn"):
            state |= linear(f"{block}{part}.qkv", 3 * WIDTH, WIDTH) | linear(f"{block}{part}.proj", WIDTH, WIDTH)
        for number in (1, 2, 3):
            state |= norm(f"{block}norm{number}", WIDTH)
        state |= linear(f"{block}mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{block}mlp.fc2", WIDTH, 4 * WIDTH)
    return state


def clip_text(prefix: str, layers: int = 2, context: int = 77) -> dict[str, torch.Tensor]:
    """CLIP's text side, which LaViLa and PE have at the root and AVION below `textual.`."""
    state = {
        f"{prefix}token_embedding.weight": random(VOCABULARY, TEXT_WIDTH),
        f"{prefix}positional_embedding": random(context, TEXT_WIDTH),
        f"{prefix}text_projection": random(TEXT_WIDTH, DIM),
    } | norm(f"{prefix}ln_final", TEXT_WIDTH)
    for layer in range(layers):
        state |= clip_block(f"{prefix}transformer.resblocks.{layer}.", TEXT_WIDTH)
    return state


def clip_block(block: str, width: int, fused: bool = False) -> dict[str, torch.Tensor]:
    stacked = linear(f"{block}attn.Wqkv", 3 * width, width)
    if not fused:
        stacked = {name.replace("Wqkv.", "in_proj_"): value for name, value in stacked.items()}
    first, second = ("fc1", "fc2") if fused else ("c_fc", "c_proj")
    return (
        stacked
        | linear(f"{block}attn.out_proj", width, width)
        | norm(f"{block}ln_1", width)
        | norm(f"{block}ln_2", width)
        | linear(f"{block}mlp.{first}", 4 * width, width)
        | linear(f"{block}mlp.{second}", width, 4 * width)
    )


def distilbert(prefix: str) -> dict[str, torch.Tensor]:
    """DistilBERT with the names of transformers."""
    state = {
        f"{prefix}embeddings.word_embeddings.weight": random(VOCABULARY, TEXT_WIDTH),
        f"{prefix}embeddings.position_embeddings.weight": random(40, TEXT_WIDTH),
    } | norm(f"{prefix}embeddings.LayerNorm", TEXT_WIDTH)
    for layer in range(2):
        block = f"{prefix}transformer.layer.{layer}."
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            state |= linear(f"{block}attention.{part}", TEXT_WIDTH, TEXT_WIDTH)
        state |= norm(f"{block}sa_layer_norm", TEXT_WIDTH) | norm(f"{block}output_layer_norm", TEXT_WIDTH)
        state |= linear(f"{block}ffn.lin1", 64, TEXT_WIDTH) | linear(f"{block}ffn.lin2", TEXT_WIDTH, 64)
    return state


def lavila() -> dict[str, torch.Tensor]:
    """LaViLa with CLIP's text side."""
    return (
        space_time("visual.", ln_pre=True, bias=False)
        | clip_text("")
        | {"image_projection": random(WIDTH, DIM), "logit_scale": torch.tensor(2.5)}
    )


def avion(fused: bool = True) -> dict[str, torch.Tensor]:
    """AVION in its fused or plain layout."""
    conv = random(WIDTH, 3 * PATCH * PATCH) if fused else random(WIDTH, 3, PATCH, PATCH)
    state = {
        "visual.class_embedding": random(WIDTH),
        "visual.positional_embedding": random((SIZE // PATCH) ** 2 + 1, WIDTH),
        "visual.temporal_embedding": random(FRAMES, WIDTH),
        "visual.conv1.weight": conv,
        "visual.image_projection": random(WIDTH, DIM),
        "logit_scale": torch.tensor(2.0),
    }
    state |= norm("visual.ln_pre", WIDTH) | norm("visual.ln_post", WIDTH) | clip_text("textual.")
    for layer in range(2):
        state |= clip_block(f"visual.transformer.resblocks.{layer}.", WIDTH, fused)
    return state


def egovlp() -> dict[str, torch.Tensor]:
    """EgoVLP's own layout."""
    return (
        space_time("video_model.")
        | distilbert("text_model.")
        | linear("vid_proj.0", DIM, WIDTH)
        | linear("txt_proj.1", DIM, TEXT_WIDTH)
    )


def save(path: Path, state: dict[str, torch.Tensor], **more: Any) -> Path:
    """Write a training checkpoint as the official scripts do: wrapped, with `module.` before each name."""
    content = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}, **more}
    torch.save(content, path)
    return path


def args(model: str = "CLIP_OPENAI_TIMESFORMER_BASE") -> argparse.Namespace:
    return argparse.Namespace(model=model, project_embed_dim=DIM)
