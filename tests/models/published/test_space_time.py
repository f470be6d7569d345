"""Divided attention beside a loop over queries, and the residual sum that is easily read wrong."""

import torch

from clep.models.published.space_time import DividedAttention, SpaceTimeBlock

FRAMES, PLACES, WIDTH, HEADS = 3, 4, 8, 2


def attend_slowly(layer: DividedAttention, x: torch.Tensor, over: str) -> torch.Tensor:
    """Attention of each query by itself, from the description: which tokens it sees, then softmax."""
    query, key, value = (part.unflatten(-1, (HEADS, -1)) for part in layer.qkv(x).chunk(3, dim=-1))
    out = torch.zeros_like(query)
    for token in range(x.shape[1]):
        if token == 0:
            seen = list(range(x.shape[1]))
        else:
            frame, patch = divmod(token - 1, PLACES)
            group = [1 + f * PLACES + patch for f in range(FRAMES)] if over == "time" else None
            seen = [0, *(group or [1 + frame * PLACES + p for p in range(PLACES)])]
        for head in range(HEADS):
            scores = query[0, token, head] @ key[0, seen, head].T / (WIDTH // HEADS) ** 0.5
            out[0, token, head] = scores.softmax(0) @ value[0, seen, head]
    return layer.proj(out.flatten(2))


def test_patches_see_the_class_token_and_their_group() -> None:
    layer = DividedAttention(WIDTH, HEADS).double()
    x = torch.randn(1, 1 + FRAMES * PLACES, WIDTH, dtype=torch.float64)
    for over in ("time", "space"):
        torch.testing.assert_close(layer(x, FRAMES, over), attend_slowly(layer, x, over))


def test_temporal_attention_is_no_part_of_the_residual_sum() -> None:
    block = SpaceTimeBlock(WIDTH, HEADS, 4 * WIDTH, "gelu", 1e-6, gated=False).double()
    x = torch.randn(1, 1 + FRAMES * PLACES, WIDTH, dtype=torch.float64)
    t = block.timeattn(block.norm3(x), FRAMES, "time")
    s = block.attn(block.norm1(x + t), FRAMES, "space")
    right = x + s
    torch.testing.assert_close(block(x, FRAMES), right + block.mlp(block.norm2(right)))
    wrong = x + t + s
    assert (block(x, FRAMES) - (wrong + block.mlp(block.norm2(wrong)))).abs().max() > 1e-3


def test_a_closed_gate_switches_temporal_attention_off() -> None:
    block = SpaceTimeBlock(WIDTH, HEADS, 4 * WIDTH, "gelu", 1e-6, gated=True)
    torch.nn.init.zeros_(block.alpha_timeattn)
    x = torch.randn(1, 1 + FRAMES * PLACES, WIDTH)
    y = x + block.attn(block.norm1(x), FRAMES, "space")
    torch.testing.assert_close(block(x, FRAMES), y + block.mlp(block.norm2(y)))
