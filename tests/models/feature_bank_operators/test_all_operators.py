"""Properties of all operators: masks, shapes, and invalid input."""

import pytest
import torch

from clep.errors import InputError
from clep.models import FBOAvg, FBOMax, FBONone, FBONonLocal, FeatureBankOperator

IN, CONTEXT, LATENT = 6, 7, 4
KINDS = [FBONonLocal, FBOAvg, FBOMax, FBONone]


def made(kind: type[FeatureBankOperator]) -> FeatureBankOperator:
    """Return an operator in evaluation mode with random parameters, none of them zero."""
    operator = kind(IN, CONTEXT) if kind is FBONone else kind(IN, CONTEXT, latent_dim=LATENT)
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.normal_()
    return operator.eval()


def inputs(*queries: int, slots: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.rand(5, slots) < 0.5
    mask[0], mask[1], mask[2, 0] = True, False, True
    return torch.randn(5, *queries, IN), torch.randn(5, slots, CONTEXT), mask


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [(), (1,), (3,)])
def test_the_content_of_empty_slots_has_no_effect(kind: type, queries: tuple[int, ...]) -> None:
    operator, (short_term, context, mask) = made(kind), inputs(*queries)
    zeroed = operator(short_term, context.masked_fill(~mask[..., None], 0), mask)
    assert zeroed.shape == (5, *queries, operator.out_dim)
    assert zeroed.isfinite().all()
    for garbage in (1e30, float("inf"), float("nan")):
        found = operator(short_term, context.masked_fill(~mask[..., None], garbage), mask)
        assert torch.equal(found, zeroed)


@pytest.mark.parametrize("kind", KINDS)
def test_more_padding_and_other_slots_of_the_rows_have_no_effect(kind: type) -> None:
    operator, (short_term, context, mask) = made(kind), inputs()
    expected = operator(short_term, context, mask)
    padded = torch.cat([torch.full((5, 3, CONTEXT), torch.nan), context, torch.full((5, 40, CONTEXT), 7.0)], 1)
    wider = torch.cat([torch.zeros(5, 3), mask, torch.zeros(5, 40)], 1).bool()
    torch.testing.assert_close(operator(short_term, padded, wider), expected, rtol=1e-5, atol=1e-6)
    order = torch.randperm(wider.shape[1])
    torch.testing.assert_close(operator(short_term, padded[:, order], wider[:, order]), expected, rtol=1e-5, atol=1e-6)
    for one in range(5):  # independent of other moments' slots
        alone = operator(
            short_term[one : one + 1], context[one : one + 1, mask[one]], torch.ones(1, int(mask[one].sum())) > 0
        )
        torch.testing.assert_close(alone[0], expected[one], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_per_feature_equals_a_context_per_feature(kind: type) -> None:
    operator, (short_term, context, _) = made(kind), inputs(3)
    own = torch.rand(5, 3, 9) < 0.5
    own[1, 2], own[4] = False, False
    context[~own.any(1)] = torch.nan
    found = operator(short_term, context, own)
    for n in range(3):
        alone = operator(short_term[:, n], context.masked_fill(~own[:, n, :, None], 0), own[:, n])
        torch.testing.assert_close(found[:, n], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [(), (3,)])
@pytest.mark.parametrize("slots", [0, 9])
def test_gradients_are_finite_whatever_is_padded(kind: type, queries: tuple[int, ...], slots: int) -> None:
    operator, (short_term, context, mask) = made(kind), inputs(*queries, slots=max(slots, 1))
    context, mask = context[:, :slots], mask[:, :slots]
    context = context.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    short_term.requires_grad_()
    out = operator(short_term, context, mask)
    if out.requires_grad and out.numel():
        out.square().sum().backward()
    leaves = [context, *operator.parameters()] + ([short_term] if kind is FBONonLocal else [])
    for leaf in leaves:
        if leaf.grad is not None:
            assert leaf.grad.isfinite().all()
    if context.grad is not None:
        assert not context.grad[~mask].any()
        assert kind is FBONone or context.grad[mask].any() == bool(slots)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_finite_without_rows(kind: type) -> None:
    operator, (short_term, context, mask) = made(kind), inputs(2)
    expected = operator(short_term, context, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = operator(short_term, context.masked_fill(~mask[..., None], torch.nan), mask)
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.5)


@pytest.mark.parametrize("kind", [FBONonLocal, FBOAvg, FBOMax])
def test_counted_empty_slots_are_refused_with_shared_rows(kind: type) -> None:
    operator, (short_term, context, mask) = kind(IN, CONTEXT, empty_slots="counted"), inputs(3)
    with pytest.raises(InputError, match="empty_slots=counted"):
        operator(short_term, context, mask[:, None].expand(-1, 3, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_another_bank_are_refused(kind: type) -> None:
    operator, (short_term, context, mask) = made(kind), inputs()
    with pytest.raises(InputError, match="in_dim=6 and context_dim=7, but the features have 6 and 8"):
        operator(short_term, torch.randn(5, 9, 8), mask)
    with pytest.raises(InputError, match="the features have 5 and 7"):
        operator(short_term[:, :5], context, mask)


@pytest.mark.parametrize("kind", KINDS)
def test_context_dim_defaults_to_in_dim(kind: type) -> None:
    assert (kind(IN).in_dim, kind(IN).context_dim) == (IN, IN)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (FBONonLocal, {"latent_dim": 0}, "latent_dim=0"),
        (FBONonLocal, {"num_layers": 0}, "num_layers=0"),
        (FBONonLocal, {"dropout": 1.0}, "dropout=1.0"),
        (FBOAvg, {"latent_dim": -1}, "positive"),
        (FBOMax, {"context_dim": 0}, "positive"),
        (FBOMax, {"dropout": -0.1}, "dropout=-0.1"),
        (FBONone, {"in_dim": 0}, "positive"),
        (FBONone, {"empty_slots": "zeros"}, "empty_slots='zeros'; choose masked or counted"),
    ],
)
def test_options_are_checked(kind: type, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**{"in_dim": IN, **options})


def test_a_subclass_must_define_forward() -> None:
    with pytest.raises(NotImplementedError, match="FeatureBankOperator must define"):
        FeatureBankOperator(IN, CONTEXT, LATENT)(*inputs())
