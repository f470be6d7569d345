"""Values of each operator, compared with independent slow loops in float64."""

import math

import pytest
import torch
from torch import nn

from clep.models import FBOAvg, FBOMax, FBONonLocal

BATCH, QUERIES, SLOTS, IN, CONTEXT, LATENT = 5, 3, 8, 6, 7, 4


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.rand(BATCH, SLOTS) < 0.6
    mask[0], mask[1] = True, False
    short_term, context = torch.randn(BATCH, QUERIES, IN), torch.randn(BATCH, SLOTS, CONTEXT)
    return short_term.double(), context.double(), mask


def affine(layer: nn.Linear, numbers: list[float]) -> list[float]:
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [
        sum(w * x for w, x in zip(row, numbers, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), bias, strict=True)
    ]


def layer_norm(norm: nn.LayerNorm, numbers: list[float]) -> list[float]:
    mean = sum(numbers) / len(numbers)
    spread = math.sqrt(sum((x - mean) ** 2 for x in numbers) / len(numbers) + norm.eps)
    triples = zip(numbers, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    return [(x - mean) / spread * w + b for x, w, b in triples]


def attend(layer: nn.Module, short_term: list[float], rows: list[list[float]]) -> tuple[list[float], list[float]]:
    """One layer as in the paper: θ, φ and g of every feature, one softmax, one sum."""
    theta = affine(layer.theta, short_term)
    logits = [
        sum(a * b for a, b in zip(theta, affine(layer.phi, row), strict=True)) / math.sqrt(LATENT) for row in rows
    ]
    total = sum(math.exp(logit) for logit in logits)
    weights = [math.exp(logit) / total for logit in logits]
    values = [affine(layer.g, row) for row in rows]
    seen = [sum(w * value[i] for w, value in zip(weights, values, strict=True)) for i in range(LATENT)]
    found = affine(layer.out, [max(0.0, x) for x in layer_norm(layer.norm, seen)])
    return [a + b for a, b in zip(short_term, found, strict=True)], weights


def by_hand(operator: FBONonLocal, short_term: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> tuple:
    out, weights = torch.zeros(BATCH, QUERIES, LATENT), torch.zeros(len(operator.layers), BATCH, QUERIES, SLOTS)
    for b in range(BATCH):
        filled = mask[b].nonzero().flatten().tolist()
        rows = [affine(operator.reduce_context[0], context[b, slot].tolist()) for slot in filled]
        for q in range(QUERIES):
            feature = affine(operator.reduce_short_term[0], short_term[b, q].tolist())
            for number, layer in enumerate(operator.layers):
                if rows:
                    feature, attention = attend(layer, feature, rows)
                    weights[number, b, q, filled] = torch.tensor(attention)
            out[b, q] = torch.tensor(feature)
    return out, weights


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_non_local_equals_the_formula_of_the_paper(num_layers: int) -> None:
    operator = FBONonLocal(IN, CONTEXT, LATENT, num_layers).double().eval()
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.normal_()
    short_term, context, mask = inputs()
    expected, weights = by_hand(operator, short_term, context, mask)
    torch.testing.assert_close(operator(short_term, context, mask).float(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(operator.attention(short_term, context, mask).float(), weights, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(operator(short_term[:, 1], context, mask).float(), expected[:, 1], rtol=1e-5, atol=1e-5)
    assert operator.attention(short_term[:, 1], context, mask).shape == (num_layers, BATCH, SLOTS)


def test_non_local_starts_as_the_reduced_short_term_features_and_learns_to_attend() -> None:
    operator, (short_term, context, mask) = FBONonLocal(IN, CONTEXT, LATENT).eval(), inputs()
    short_term, context = short_term.float(), context.float()
    assert torch.equal(operator(short_term, context, mask), operator.reduce_short_term(short_term))
    target = context.masked_fill(~mask[..., None], 0).sum(1)[:, None, :LATENT].expand(-1, QUERIES, -1)
    optimizer = torch.optim.Adam(operator.parameters(), lr=0.02)
    losses = []
    for _ in range(100):
        loss = (operator(short_term, context, mask) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert all(parameter.grad.any() for parameter in operator.parameters())


def test_without_a_context_the_output_depends_on_short_term_features_only() -> None:
    operator, (short_term, context, mask) = FBONonLocal(IN, CONTEXT, LATENT).double().eval(), inputs()
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.normal_()
    assert torch.equal(operator(short_term, context, mask)[1], operator.reduce_short_term(short_term)[1])
    assert not torch.allclose(operator(short_term, context, mask)[0], operator.reduce_short_term(short_term)[0])
    for kind in (FBOAvg, FBOMax):
        pooled = kind(IN, CONTEXT, LATENT).double().eval()
        assert not pooled(short_term, context, mask)[1].any()
        assert pooled(short_term, context, mask)[0].any()


@pytest.mark.parametrize(("kind", "pool"), [(FBOAvg, lambda values: sum(values) / len(values)), (FBOMax, max)])
@pytest.mark.parametrize("latent_dim", [None, LATENT])
def test_pooling_is_over_rows_only(kind: type, pool: object, latent_dim: int | None) -> None:
    operator = kind(IN, CONTEXT, latent_dim).double().eval()
    short_term, context, mask = inputs()
    context -= 10  # so that zeros of empty slots would be the maximum
    found = operator(short_term, context, mask)
    for b in range(BATCH):
        rows = context[b][mask[b]].tolist()
        expected = [pool([row[i] for row in rows]) for i in range(CONTEXT)] if rows else None
        if latent_dim is not None and expected is not None:
            expected = affine(operator.project, expected)
        expected = expected or [0.0] * operator.out_dim
        for q in range(QUERIES):
            assert found[b, q].tolist() == pytest.approx(expected, abs=1e-9)


def test_dropout_only_in_training() -> None:
    short_term, context, mask = inputs()
    for kind in (FBONonLocal, FBOAvg, FBOMax):
        operator = kind(IN, CONTEXT, LATENT, dropout=0.5).double()
        assert not torch.equal(operator(short_term, context, mask), operator(short_term, context, mask))
        operator.eval()
        assert torch.equal(operator(short_term, context, mask), operator(short_term, context, mask))


@pytest.mark.parametrize("kind", [FBOAvg, FBOMax, FBONonLocal])
def test_counted_empty_slots_are_rows_of_zeros(kind: type) -> None:
    """As in mmaction2, whose banks are zero-padded arrays without a mask: a loop over all slots."""
    operator = kind(IN, CONTEXT, LATENT, empty_slots="counted").double().eval()
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.normal_()
    short_term, context, mask = inputs()
    context -= 3  # so that a zero is often the maximum
    found = operator(short_term, context.masked_fill(~mask[..., None], torch.nan), mask)
    padded = context.masked_fill(~mask[..., None], 0)
    if kind is FBONonLocal:
        expected, weights = by_hand(operator, short_term, padded, torch.ones_like(mask))
        torch.testing.assert_close(operator.attention(short_term, context, mask).float(), weights, rtol=1e-5, atol=1e-6)
        assert weights[0, 1].min() > 0  # a moment without any row attends to its empty slots
    else:
        rows = padded.tolist()
        pool = max if kind is FBOMax else lambda values: sum(values) / SLOTS
        pooled = [[pool([rows[b][slot][i] for slot in range(SLOTS)]) for i in range(CONTEXT)] for b in range(BATCH)]
        expected = torch.tensor([affine(operator.project, row) for row in pooled])[:, None].expand(-1, QUERIES, -1)
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-5)
    masked = kind(IN, CONTEXT, LATENT).double().eval()
    masked.load_state_dict(operator.state_dict())
    without_gaps = masked(short_term, context, mask)[0]
    torch.testing.assert_close(found[0], without_gaps)  # all slots of moment 0 hold a row
    assert not torch.allclose(found[1:], masked(short_term, context, mask)[1:])
