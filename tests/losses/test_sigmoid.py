import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clep.errors import InputError
from clep.losses import BCELoss, SigmoidLoss, TextIdPositives
from clep.losses.across_ranks import across_ranks
from tests.losses.slow_losses import embeddings


def value_and_gradient(loss, positives, n=37, m=37, dim=8):
    arguments = embeddings(n, m, dim=dim)
    value = loss(*arguments[:3], positives, arguments[3])
    return value, *torch.autograd.grad(value, arguments)


@pytest.mark.parametrize("kind", ["diagonal", "bool", "weights", "rows"])
@pytest.mark.parametrize("chunk", [1, 5, 36, 37, 1000])
def test_chunks_change_nothing(kind, chunk):
    matrix = torch.rand(37, 37) < 0.1
    positives = {"diagonal": None, "bool": matrix, "weights": torch.rand(37, 37), "rows": lambda rows: matrix[rows]}
    whole = value_and_gradient(SigmoidLoss(chunk=None), positives[kind])
    for found, expected in zip(value_and_gradient(SigmoidLoss(chunk), positives[kind]), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_hand_computed():
    side, scale, bias = torch.eye(2), 3.0, -1.0
    right, wrong = math.log1p(math.exp(-2.0)), math.log1p(math.exp(-1.0))
    expected = (2 * right + 2 * wrong) / 2
    assert float(SigmoidLoss()(side, side, scale, None, torch.tensor(bias))) == pytest.approx(expected, abs=1e-6)
    assert float(BCELoss()(side, side, scale, None, torch.tensor(bias))) == pytest.approx(expected / 2, abs=1e-6)


def test_without_a_bias_it_is_0():
    video, text, scale, _ = embeddings(6, 6)
    torch.testing.assert_close(
        SigmoidLoss()(video, text, scale), SigmoidLoss()(video, text, scale, None, torch.tensor(0.0))
    )


def test_bce_equals_the_mean_of_torch():
    video, text, scale, bias = embeddings(9, 6)
    positives = torch.rand(9, 6) < 0.3
    expected = F.binary_cross_entropy_with_logits(scale * video @ text.T + bias, positives.float())
    torch.testing.assert_close(BCELoss()(video, text, scale, positives, bias), expected)


def test_gradients_are_exact_and_a_second_derivative_is_refused():
    arguments = [t.detach().double().requires_grad_() for t in embeddings(4, 5)]
    positives = torch.rand(4, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *a: SigmoidLoss(chunk=3)(*a[:3], positives, a[3]), arguments)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(SigmoidLoss()(*arguments[:3], positives, arguments[3]), arguments, create_graph=True)


def test_millions_of_easy_negatives_keep_their_digits():
    """Nearly every term is about exp(bias), which PyTorch's formula for any target rounds to 0."""
    video, text = (F.normalize(torch.randn(400, 16), dim=-1) for _ in range(2))
    bias, positives = torch.tensor(-16.0), torch.zeros(400, 400, dtype=torch.bool)
    expected = F.softplus(10 * video.double() @ text.double().T - 16).sum() / 400
    ours = SigmoidLoss()(video, text, 10.0, positives, bias)
    usual = F.binary_cross_entropy_with_logits(10 * video @ text.T + bias, positives.float(), reduction="sum") / 400
    assert float(ours) == pytest.approx(float(expected), rel=1e-5)
    assert abs(float(usual) / float(expected) - 1) > 1e-4


def test_no_gradient_is_computed_where_none_is_needed():
    video, text, scale, bias = embeddings(6, 6)
    frozen = SigmoidLoss()(video, text.detach(), scale.detach(), None, bias.detach())
    frozen.backward()
    whole = torch.autograd.grad(SigmoidLoss()(*embeddings(6, 6)[:3], None, bias), bias)
    assert text.grad is None
    assert bias.grad is None
    assert torch.isfinite(whole[0])
    with torch.no_grad():
        assert not SigmoidLoss()(video, text, scale, None, bias).requires_grad


def test_the_full_matrix_of_positives_is_never_in_memory():
    asked = []

    class Watched(TextIdPositives):
        def __call__(self, video_keys, text_keys):
            asked.append((len(video_keys["position"]), len(text_keys["position"])))
            return super().__call__(video_keys, text_keys)

    video, text, scale, bias = embeddings(10, 10)
    ids = torch.randint(0, 4, (10,))
    value = across_ranks(SigmoidLoss(chunk=4), positives=Watched())(video, text, scale, {"text_id": ids}, bias)
    assert asked == [(4, 10), (4, 10), (2, 10)]
    torch.testing.assert_close(value, SigmoidLoss()(video, text, scale, ids[:, None] == ids[None, :], bias))


def test_invalid_options_and_shapes_are_refused():
    with pytest.raises(InputError, match=r"loss\.chunk=0"):
        SigmoidLoss(chunk=0)
    video, text, scale, _ = embeddings(3, 4)
    with pytest.raises(ValueError, match=r"\(3, 3\) for 3 videos and 4 texts"):
        SigmoidLoss()(video, text, scale, lambda rows: torch.eye(3, dtype=torch.bool)[rows])


def recall_after_training(loss: SigmoidLoss, scale: float, bias: float | None) -> float:
    """Train two linear towers for 60 steps on noisy views of shared latents, and return R@1 among 256 new pairs."""
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1024, 12, generator=generator)
    video, text = (
        latent @ torch.randn(12, dim, generator=generator) + 2 * torch.randn(1024, dim, generator=generator)
        for dim in (24, 20)
    )
    towers = nn.ModuleList([nn.Linear(24, 16), nn.Linear(20, 16)])
    log_scale = nn.Parameter(torch.tensor(scale).log())
    logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))
    parameters = [*towers.parameters(), log_scale, *([] if logit_bias is None else [logit_bias])]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)

    def embed(rows: torch.Tensor | slice) -> list[torch.Tensor]:
        return [F.normalize(tower(side[rows]), dim=-1) for tower, side in zip(towers, (video, text), strict=True)]

    for _ in range(60):
        own_video, own_text = embed(torch.randperm(768, generator=generator)[:128])
        optimizer.zero_grad()
        loss(own_video, own_text, log_scale.exp(), None, logit_bias).backward()
        optimizer.step()
    with torch.no_grad():
        found, wanted = embed(slice(768, None))
    return 100 * float(((found @ wanted.T).argmax(1) == torch.arange(256)).float().mean())


def test_pairwise_losses_learn_from_a_bias_of_minus_ten_and_not_without_a_bias() -> None:
    """The defaults of loss=siglip and loss=bce; AdamW makes the two equal, which differ by a constant factor."""
    torch.manual_seed(1)
    siglip = recall_after_training(SigmoidLoss(), 10.0, -10.0)
    torch.manual_seed(1)
    bce = recall_after_training(BCELoss(), 10.0, -10.0)
    torch.manual_seed(1)
    without_bias = recall_after_training(BCELoss(), 1 / 0.07, None)
    assert min(siglip, bce) > 35
    assert abs(siglip - bce) < 5
    assert without_bias < 5
