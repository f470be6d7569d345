"""Temporal attention compared with a slow loop over windows, heads and rows."""

import math

import pytest
import torch
from torch import Tensor

from clep.errors import InputError
from clep.models import TemporalAttention

CASES = [(pool, positions) for pool in ("attention", "class") for positions in ("rotary", "learned")]


def tower(pool: str = "attention", positions: str = "rotary", **options: object) -> TemporalAttention:
    torch.manual_seed(1)
    made = TemporalAttention(5, dim=12, depth=2, heads=3, pool=pool, positions=positions, max_rows=7, **options)
    with torch.no_grad():
        for parameter in made.parameters():  # norms and biases too, so that a missing one is noticed
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + layer.eps) * layer.weight + layer.bias


def turn(x: Tensor, position: int) -> Tensor:
    """Rotate the pairs (i, i + half) of a head's dimensions, as complex numbers."""
    half = len(x) // 2
    rates = torch.tensor([10_000.0 ** (-2 * i / len(x)) for i in range(half)], dtype=x.dtype)
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half, dtype=x.dtype), position * rates)
    return torch.cat([turned.real, turned.imag])


def attend(q: Tensor, at: int, keys: Tensor, values: Tensor, positions: list[int], made: TemporalAttention) -> Tensor:
    """Let one query attend to all tokens, head by head."""
    heads = made.blocks[0].heads
    size = len(q) // heads
    found = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        rotate = (lambda x, p: turn(x, p)) if made.rotary is not None else (lambda x, p: x)
        logits = [
            float((rotate(q[part], at) @ rotate(key[part], place)).detach()) / math.sqrt(size)
            for key, place in zip(keys, positions, strict=True)
        ]
        weights = [math.exp(logit - max(logits)) for logit in logits]
        found.append(sum(w / sum(weights) * value[part] for w, value in zip(weights, values, strict=True)))
    return torch.cat(found)


def slow(made: TemporalAttention, rows: Tensor, mask: Tensor) -> Tensor:
    """Return the vector of one window, computed from its rows without padding."""
    real = [made.reduce(row) for row, present in zip(rows, mask, strict=True) if present]
    if not real:
        return torch.zeros(made.out_dim, dtype=rows.dtype)
    if made.learned is not None:
        real = [row + place for row, place in zip(real, made.learned, strict=False)]
    positions = list(range(1, len(real) + 1))
    tokens = list(real)
    if made.attention_pool is None:
        tokens, positions = [made.token, *tokens], [0, *positions]
    for block in made.blocks:
        q, k, v = zip(*(block.qkv(norm(token, block.norm_attention)).chunk(3) for token in tokens), strict=True)
        attended = [
            token + block.out(attend(q[i], positions[i], torch.stack(k), torch.stack(v), positions, made))
            for i, token in enumerate(tokens)
        ]
        tokens = [token + block.feed(norm(token, block.norm_forward)) for token in attended]
    tokens = [norm(token, made.norm) for token in tokens]
    if made.attention_pool is None:
        return tokens[0]
    k, v = zip(*(made.attention_pool.kv(token).chunk(2) for token in tokens), strict=True)
    return made.attention_pool.out(
        attend(made.attention_pool.q(made.token), 0, torch.stack(k), torch.stack(v), positions, made)
    )


@pytest.mark.parametrize(("pool", "positions"), CASES)
def test_equals_the_slow_version(pool: str, positions: str) -> None:
    made = tower(pool, positions).double()
    rows = torch.randn(6, 7, 5, dtype=torch.float64)
    mask = torch.rand(6, 7) < 0.6
    mask[0], mask[1], mask[2, 1:] = True, False, False  # full, empty, a single row
    expected = torch.stack([slow(made, *window) for window in zip(rows, mask, strict=True)])
    torch.testing.assert_close(made(rows, mask), expected, rtol=1e-5, atol=1e-6)  # the angles are float32
    torch.testing.assert_close(made(rows[:1], None), expected[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("pool", "positions"), CASES)
def test_padding_changes_nothing(pool: str, positions: str) -> None:
    made = tower(pool, positions)
    rows = torch.randn(4, 3, 5)
    alone = made(rows)
    for value in (0.0, 1e4, math.nan):
        filled = torch.full((4, 7, 5), value)
        mask = torch.zeros(4, 7, dtype=torch.bool)
        for positions_of_rows in ([0, 1, 2], [4, 5, 6], [1, 3, 6]):  # padding after, before and between the rows
            filled[:, :], mask[:] = value, False
            filled[:, positions_of_rows], mask[:, positions_of_rows] = rows, True
            torch.testing.assert_close(made(filled, mask), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("pool", "positions"), CASES)
def test_a_window_without_rows_is_zero_with_finite_gradients(pool: str, positions: str) -> None:
    made = tower(pool, positions)
    rows = torch.full((3, 4, 5), math.nan)
    rows[0] = torch.randn(4, 5)
    rows.requires_grad_()
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0] = True
    found = made(rows, mask)
    assert not found[1:].any()
    found.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)
    alone = tower(pool, positions)
    alone(rows[:1].detach()).square().sum().backward()
    for one, other in zip(made.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(rows.grad).all()
    assert not rows.grad[1:].any()


@pytest.mark.parametrize(("pool", "positions"), CASES)
def test_the_order_of_rows_matters_in_short_windows_too(pool: str, positions: str) -> None:
    made = tower(pool, positions)
    rows = torch.randn(2, 2, 5)
    assert (made(rows) - made(rows.flip(1))).abs().max() > 1e-3


def test_rotary_windows_may_be_longer_and_learned_ones_may_not() -> None:
    assert tower()(torch.randn(2, 40, 5)).shape == (2, 12)
    with pytest.raises(InputError, match=r"window of 8 rows is longer than the 7 learned positions.*positions=rotary"):
        tower(positions="learned")(torch.randn(2, 8, 5))


def test_under_autocast_it_is_near_float32() -> None:
    made, rows, mask = tower(), torch.randn(3, 6, 5), torch.rand(3, 6) < 0.7
    mask[0] = False
    with torch.autocast("cpu", torch.bfloat16):
        half = made(rows, mask)
    torch.testing.assert_close(half.float(), made(rows, mask), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 10, "heads": 3}, r"dim=10 must be a multiple of 6"),
        ({"dim": 9, "heads": 3}, r"dim=9 must be a multiple of 6 for 3 heads with rotary"),
        ({"pool": "max"}, r"pool='max'.*attention or class"),
        ({"positions": "sine"}, r"positions='sine'"),
        ({"depth": 0}, r"at least 1"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
    ],
)
def test_invalid_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TemporalAttention(5, **{"dim": 12, "heads": 3, **options})


def test_rows_of_another_bank_are_refused() -> None:
    with pytest.raises(InputError, match="has in_dim=5, but got rows of dimension 6"):
        tower()(torch.zeros(1, 2, 6))
