"""Time of the operators, for `benchmarks.long_term`; the non-local one compared with a direct implementation.

The plain one projects every slot by θ, φ and g as the paper's figure shows, and calls `scaled_dot_product_attention` on
`[batch, 1, slots, latent]`. It has the same weights, and must give the same values.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.report import Report, table
from benchmarks.timing import medians, paired_ratio, seconds_of, take_turns
from clep.models import FBOAvg, FBOMax, FBONone, FBONonLocal, LongTermTower

if TYPE_CHECKING:
    from benchmarks.long_term import Settings

SHARE_OF_SLOTS = 0.3
"""That hold a row: 1.5 regions of 5 slots a second."""


def measure(settings: "Settings", report: Report) -> None:
    """Time forward and forward with backward, with as many slots filled as in AVA, and with all."""
    _beside_plain(settings, report)
    _in_the_tower(settings, report)


def plain(operator: FBONonLocal, short: Tensor, context: Tensor, mask: Tensor) -> Tensor:
    """Compute what `operator` does with the projections where the paper draws them."""
    query, rows = operator.reduce_short_term(short), operator.reduce_context(context)
    for layer in operator.layers:
        theta, phi, g = layer.theta(query)[:, None, None], layer.phi(rows)[:, None], layer.g(rows)[:, None]
        seen = F.scaled_dot_product_attention(theta, phi, g, attn_mask=mask[:, None, None])[:, 0, 0]
        query = query + layer.dropout(layer.out(F.relu(layer.norm(seen))))
    return query


def example(settings: "Settings", share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return short-term features, context and mask of a batch, with this share of the slots filled."""
    torch.manual_seed(0)
    slots, dim = settings.window_s * settings.per_second, settings.size.dim
    mask = torch.rand(settings.batch_size, slots) < share
    mask[:, 0] = True
    context = torch.randn(settings.batch_size, slots, dim) * mask[..., None]
    return torch.randn(settings.batch_size, dim), context, mask


def _beside_plain(settings: "Settings", report: Report) -> None:
    found: dict[str, Any] = {"slots": settings.window_s * settings.per_second, "latent_dim": settings.latent_dim}
    for name, share in (("AVA's share of slots filled", SHARE_OF_SLOTS), ("every slot filled", 1.0)):
        short, context, mask = example(settings, share)
        operator = FBONonLocal(settings.size.dim, None, settings.latent_dim, settings.layers, dropout=0.0)
        for layer in operator.layers:
            nn.init.normal_(layer.out.weight, std=0.02)
        ways: dict[str, Callable[[], Tensor]] = {
            "ours": lambda o=operator, e=(short, context, mask): o(*e),
            "plain": lambda o=operator, e=(short, context, mask): plain(o, *e),
        }
        torch.testing.assert_close(ways["ours"](), ways["plain"](), rtol=1e-3, atol=1e-4)
        for passes, run in (("forward", _forward), ("forward and backward", _both)):
            sides = {way: seconds_of(lambda run=run, call=call, o=operator: run(o, call)) for way, call in ways.items()}
            raw = take_turns(sides, settings.operator_repeats)
            ratio = paired_ratio(raw, "plain", "ours")
            found[f"{name}, {passes}"] = {"seconds": raw, "median": medians(raw), "plain_over_ours": ratio}
            report.target(f"non-local, {name}, {passes}: plain attention ÷ ours", ratio["ratio"], 1.0)
    report.add("non_local", found)
    rows = [(name, one) for name, one in found.items() if isinstance(one, dict)]
    table(
        f"non-local operator, {settings.layers} layers of {settings.latent_dim}, batch {settings.batch_size}",
        ("what", "ours, ms", "plain, ms", "×"),
        [(name, *(1e3 * s for s in one["median"].values()), one["plain_over_ours"]["ratio"]) for name, one in rows],
    )


def _forward(module: nn.Module, call: Callable[[], Tensor]) -> Tensor:
    with torch.no_grad():
        return call()


def _both(module: nn.Module, call: Callable[[], Tensor]) -> None:
    module.zero_grad()
    call().square().mean().backward()


def _in_the_tower(settings: "Settings", report: Report) -> None:
    short, context, mask = example(settings, SHARE_OF_SLOTS)
    batch, dim = {"video": short, "context": context, "context_mask": mask}, settings.size.dim
    operators = {
        "none": FBONone(dim),
        "avg": FBOAvg(dim, None, settings.latent_dim),
        "max": FBOMax(dim, None, settings.latent_dim),
        "nl": FBONonLocal(dim, None, settings.latent_dim, settings.layers),
    }
    towers = {name: LongTermTower(dim, settings.latent_dim, operator) for name, operator in operators.items()}
    sides = {name: seconds_of(lambda tower=tower: _both(tower, lambda: tower(batch))) for name, tower in towers.items()}
    raw = take_turns(sides, settings.operator_repeats)
    middle = medians(raw)
    report.add("tower_seconds_of_a_batch", {"seconds": raw, "median": middle})
    table(
        f"the tower with each operator, forward and backward of {settings.batch_size} moments",
        ("operator", "ms", "× none"),
        [(name, 1e3 * seconds, seconds / middle["none"]) for name, seconds in middle.items()],
    )
