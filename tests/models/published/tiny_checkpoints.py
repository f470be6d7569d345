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


def bert_layer(layer: str) -> dict[str, torch.Tensor]:
    """A layer of BERT or RoBERTa with the names of transformers."""
    state: dict[str, torch.Tensor] = {}
    for part in ("query", "key", "value"):
        state |= linear(f"{layer}attention.self.{part}", TEXT_WIDTH, TEXT_WIDTH)
    state |= linear(f"{layer}attention.output.dense", TEXT_WIDTH, TEXT_WIDTH)
    state |= norm(f"{layer}attention.output.LayerNorm", TEXT_WIDTH) | norm(f"{layer}output.LayerNorm", TEXT_WIDTH)
    return state | linear(f"{layer}intermediate.dense", 64, TEXT_WIDTH) | linear(f"{layer}output.dense", TEXT_WIDTH, 64)


def bert(prefix: str, layers: int, position_ids: int = 40) -> dict[str, torch.Tensor]:
    """BERT or RoBERTa, with the position ids that older versions of transformers stored."""
    state = {
        f"{prefix}embeddings.word_embeddings.weight": random(VOCABULARY, TEXT_WIDTH),
        f"{prefix}embeddings.position_embeddings.weight": random(position_ids, TEXT_WIDTH),
        f"{prefix}embeddings.token_type_embeddings.weight": random(2, TEXT_WIDTH),
        f"{prefix}embeddings.position_ids": torch.arange(position_ids)[None],
    } | norm(f"{prefix}embeddings.LayerNorm", TEXT_WIDTH)
    for layer in range(layers):
        state |= bert_layer(f"{prefix}encoder.layer.{layer}.")
    return state


def egovlpv2(small: bool = False) -> dict[str, torch.Tensor]:
    """EgoVLPv2's dual encoder with some of its fusion path; `small` has EgoVLP's projections."""
    state = space_time("video_model.") | bert("text_model.", 2)
    state |= {"cls_token": random(1, 1, WIDTH), "video_model.blocks.1.attn.alpha_i2t": random(1)}
    state |= linear("text_model.encoder.layer.1.crossattention_t2i.self.query", TEXT_WIDTH, TEXT_WIDTH)
    if small:
        return state | linear("vid_proj.0", DIM, WIDTH) | linear("txt_proj.1", DIM, TEXT_WIDTH)
    for name, width in (("vid_proj", WIDTH), ("txt_proj", TEXT_WIDTH)):
        for layer in (0, 2, 4):
            state |= linear(f"{name}.{layer}", DIM, DIM if layer else width, bias=False)
    return state


def egovideo(text_layers: int = 21) -> dict[str, torch.Tensor]:
    """EgoVideo with two vision layers and a text side that is deeper than what is used of it."""
    tokens = FRAMES * (SIZE // PATCH) ** 2 + 1
    state = {
        "visual.cls_token": random(1, 1, WIDTH),
        "visual.pos_embed": random(1, tokens, WIDTH),
        "visual.clip_pos_embed": random(1, tokens, WIDTH),
        "visual.patch_embed.proj.weight": random(WIDTH, 3, 1, PATCH, PATCH),
        "visual.patch_embed.proj.bias": random(WIDTH),
        "image_projection": random(12, DIM),
        "text_projection": random(TEXT_WIDTH, DIM),
    } | linear("visual.clip_decoder.0.head", 8, WIDTH)
    for layer in range(2):
        block = f"visual.blocks.{layer}."
        for name in ("norm1", "norm2", "attn.q_norm", "attn.k_norm"):
            state[f"{block}{name}.weight"] = 1 + random(WIDTH)
        state |= linear(f"{block}attn.qkv", 3 * WIDTH, WIDTH, bias=False) | linear(f"{block}attn.proj", WIDTH, WIDTH)
        state |= {f"{block}ls1.gamma": random(WIDTH), f"{block}ls2.gamma": random(WIDTH)}
        state |= linear(f"{block}mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{block}mlp.fc2", WIDTH, 4 * WIDTH)
    pool = "visual.clip_projector."
    for part in ("q", "k", "v"):
        state |= norm(f"{pool}norm1_{part}", WIDTH) | linear(f"{pool}cross_attn.{part}", WIDTH, WIDTH, bias=False)
        state[f"{pool}cross_attn.{part}_bias"] = random(WIDTH)
    state |= linear(f"{pool}cross_attn.proj", 12, WIDTH) | bert("textual.", text_layers)
    return state | linear("textual.pooler.dense", TEXT_WIDTH, TEXT_WIDTH)


def pe(class_token: bool = True) -> dict[str, torch.Tensor]:
    """PE-Core; its pool has 8 heads whatever the tower has."""
    state = {
        "visual.conv1.weight": random(WIDTH, 3, PATCH, PATCH),
        "visual.positional_embedding": random((SIZE // PATCH) ** 2 + int(class_token), WIDTH),
        "visual.attn_pool.probe": random(1, 1, WIDTH),
        "visual.attn_pool.attn.in_proj_weight": random(3 * WIDTH, WIDTH),
        "visual.attn_pool.attn.in_proj_bias": random(3 * WIDTH),
        "visual.proj": random(WIDTH, DIM),
        "logit_scale": torch.tensor(3.0),
    } | ({"visual.class_embedding": random(WIDTH)} if class_token else {})
    state |= norm("visual.ln_pre", WIDTH) | norm("visual.ln_post", WIDTH) | norm("visual.attn_pool.layernorm", WIDTH)
    state |= linear("visual.attn_pool.attn.out_proj", WIDTH, WIDTH)
    state |= linear("visual.attn_pool.mlp.c_fc", 40, WIDTH) | linear("visual.attn_pool.mlp.c_proj", WIDTH, 40)
    for layer in range(2):
        state |= clip_block(f"visual.transformer.resblocks.{layer}.", WIDTH)
    return state | clip_text("", context=32)


def siglip2() -> dict[str, torch.Tensor]:
    """SigLIP 2 in open_clip's layout, with a context of 9 tokens."""
    trunk = "visual.trunk."
    state = {
        f"{trunk}pos_embed": random(1, (SIZE // PATCH) ** 2, TEXT_WIDTH),
        f"{trunk}attn_pool.latent": random(1, 1, TEXT_WIDTH),
        f"{trunk}patch_embed.proj.weight": random(TEXT_WIDTH, 3, PATCH, PATCH),
        f"{trunk}patch_embed.proj.bias": random(TEXT_WIDTH),
        "text.token_embedding.weight": random(VOCABULARY, TEXT_WIDTH),
        "text.positional_embedding": random(9, TEXT_WIDTH),
        "logit_scale": torch.tensor(4.7),
        "logit_bias": torch.tensor(-16.5),
    }
    state |= norm(f"{trunk}norm", TEXT_WIDTH) | norm(f"{trunk}attn_pool.norm", TEXT_WIDTH)
    state |= linear(f"{trunk}attn_pool.q", TEXT_WIDTH, TEXT_WIDTH)
    state |= linear(f"{trunk}attn_pool.kv", 2 * TEXT_WIDTH, TEXT_WIDTH)
    state |= linear(f"{trunk}attn_pool.proj", TEXT_WIDTH, TEXT_WIDTH)
    state |= linear(f"{trunk}attn_pool.mlp.fc1", 48, TEXT_WIDTH) | linear(f"{trunk}attn_pool.mlp.fc2", TEXT_WIDTH, 48)
    for layer in range(2):
        block = f"{trunk}blocks.{layer}."
        state |= norm(f"{block}norm1", TEXT_WIDTH) | norm(f"{block}norm2", TEXT_WIDTH)
        state |= linear(f"{block}attn.qkv", 3 * TEXT_WIDTH, TEXT_WIDTH)
        state |= linear(f"{block}attn.proj", TEXT_WIDTH, TEXT_WIDTH)
        state |= linear(f"{block}mlp.fc1", 48, TEXT_WIDTH) | linear(f"{block}mlp.fc2", TEXT_WIDTH, 48)
        state |= clip_block(f"text.transformer.resblocks.{layer}.", TEXT_WIDTH)
    return state | norm("text.ln_final", TEXT_WIDTH) | linear("text.text_projection", TEXT_WIDTH, TEXT_WIDTH)


def open_clip_config() -> dict[str, Any]:
    """The sizes of `siglip2` as `open_clip_config.json` holds them."""
    vision = {"timm_model_kwargs": {"num_heads": 2}}
    text = {"heads": 2, "width": TEXT_WIDTH, "vocab_size": VOCABULARY}
    return {"model_cfg": {"vision_cfg": vision, "text_cfg": text}}


def words_tokenizer(folder: Path, words: list[str]) -> Path:
    """Save a tokenizer of transformers that knows a few words, with special tokens at both ends."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


def save(path: Path, state: dict[str, torch.Tensor], **more: Any) -> Path:
    """Write a training checkpoint as the official scripts do: wrapped, with `module.` before each name."""
    content = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}, **more}
    torch.save(content, path)
    return path


def args(model: str = "CLIP_OPENAI_TIMESFORMER_BASE") -> argparse.Namespace:
    return argparse.Namespace(model=model, project_embed_dim=DIM)
