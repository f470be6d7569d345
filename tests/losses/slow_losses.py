"""Slow objectives, pair by pair in float64, and the comparison of our values and gradients with them."""

import torch
from torch.nn import functional as F


def slow_two_way(of_query):
    """Mean over both directions of the mean over queries with a positive; `of_query(logits, weights)` is one query."""

    def direction(queries, items, scale, weight):
        losses = []
        for i, query in enumerate(queries):
            if any(float(w) > 0 for w in weight[i]):
                logits = [scale * torch.dot(query, item) for item in items]
                losses.append(of_query(logits, [float(w) for w in weight[i]]))
        return sum(losses) / len(losses)

    def loss(video, text, scale, weight, bias):
        return (direction(video, text, scale, weight) + direction(text, video, scale, weight.T)) / 2

    return loss


def slow_pairs(divisor):
    """Sum over pairs of the binary cross-entropy, by its definition, divided by `divisor(n, m)`."""

    def loss(video, text, scale, weight, bias):
        total = 0.0
        for i in range(len(video)):
            for j in range(len(text)):
                right = 1 / (1 + torch.exp(-(scale * torch.dot(video[i], text[j]) + bias)))
                total = total - float(weight[i, j]) * right.log() - (1 - float(weight[i, j])) * (1 - right).log()
        return total / divisor(len(video), len(text))

    return loss


def clip_query(logits, weight):
    total, log_sum = sum(weight), torch.logsumexp(torch.stack(logits), 0)
    return sum(w / total * (log_sum - logit) for w, logit in zip(weight, logits, strict=True))


def nce_query(logits, weight):
    right = sum(w * logit.exp() for w, logit in zip(weight, logits, strict=True))
    return -torch.log(right / sum(logit.exp() for logit in logits))


SLOW = {
    "clip": slow_two_way(clip_query),
    "nce": slow_two_way(nce_query),
    "sigmoid": slow_pairs(lambda n, m: n),
    "bce": slow_pairs(lambda n, m: n * m),
}


def embeddings(n, m, dim=5, seed=0, scale=7.0, bias=-1.5):
    """Unit-length video and text embeddings, a scale and a bias, all with gradient."""
    generator = torch.Generator().manual_seed(seed)
    video, text = torch.randn(n, dim, generator=generator), torch.randn(m, dim, generator=generator)
    numbers = torch.tensor(scale), torch.tensor(bias)
    return tuple(side.requires_grad_() for side in (F.normalize(video, dim=-1), F.normalize(text, dim=-1), *numbers))


def compare(loss, slow, arguments, positives=None, weight=None, tolerance=1e-5):
    """Compare in float32 to `tolerance`, and in float64 to 1e-9; `weight` is the matrix, the diagonal by default."""
    weight = torch.eye(len(arguments[0])) if weight is None else weight
    reference = [argument.detach().double().requires_grad_() for argument in arguments]
    expected = SLOW[slow](*reference[:3], weight, reference[3])
    slopes = torch.autograd.grad(expected, reference, allow_unused=True)
    for dtype, close in ((torch.float32, tolerance), (torch.float64, 1e-9)):
        ours = [argument.detach().to(dtype).requires_grad_() for argument in arguments]
        given = (
            positives.to(dtype) if isinstance(positives, torch.Tensor) and positives.is_floating_point() else positives
        )
        value = loss(*ours[:3], given, ours[3])
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), expected, rtol=close, atol=close)
        for found, wanted in zip(torch.autograd.grad(value, ours, allow_unused=True), slopes, strict=True):
            if wanted is None:
                assert found is None
            else:
                torch.testing.assert_close(found.double(), wanted, rtol=close, atol=close)


def cases():
    """All kinds of positives by name: (n, m, positives as passed to a loss, the matrix)."""
    generator = torch.Generator().manual_seed(5)
    some = torch.zeros(5, 7, dtype=torch.bool)
    some[0, [0, 3]] = some[1, 1] = some[3, [3, 4, 5]] = some[4, 3] = True
    weights = torch.rand(6, 4, generator=generator) * (torch.rand(6, 4, generator=generator) < 0.6)
    weights[2], weights[0, 0] = 0, 0.5
    return {
        "the diagonal": (6, 6, None, None),
        "rows and columns without any": (5, 7, some, some.float()),
        "equal texts": (4, 4, torch.ones(4, 4, dtype=torch.bool), torch.ones(4, 4)),
        "weights": (6, 4, weights, weights),
        "one pair": (1, 1, None, None),
    }
