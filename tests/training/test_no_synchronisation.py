"""No training step waits for the device: nothing on the way from a batch to new weights reads a value of a tensor.

Steps run on fake tensors, which have shapes but no values: reading a value (`.item()`, `.tolist()`, `if tensor:`), or a
shape that depends on values (`nonzero`, boolean indexing), raises an error. On a GPU each of these would wait.
"""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from clep.losses import (
    BCELoss,
    ClipLoss,
    DiagonalPositives,
    EgoNCELoss,
    SigmoidLoss,
    TextIdPositives,
    TextSimilarityPositives,
    VerbNounPositives,
)
from clep.models import DualEncoder, FBONonLocal, LongTermTower, ProjectionHead, TemporalTower
from clep.training import ContrastiveModule, adamw, warmup_cosine
from clep.training.ema import update_average

BATCH, ROWS, SLOTS, DIM, EMBED = 6, 5, 7, 8, 4


def batch() -> dict[str, Any]:
    return {
        "video": torch.randn(BATCH, ROWS, DIM),
        "video_mask": torch.rand(BATCH, ROWS) < 0.7,
        "text": torch.randn(BATCH, DIM),
        "text_id": torch.arange(BATCH) % 4,
        "moment": torch.arange(BATCH),
        "verb": torch.randint(0, 3, (BATCH, 2)),
        "noun": torch.randint(0, 3, (BATCH, 2)),
        "context": torch.randn(BATCH, SLOTS, DIM),
        "context_mask": torch.rand(BATCH, SLOTS) < 0.7,
    }


TOWERS = {
    "mlp": lambda: ProjectionHead(DIM, EMBED, hidden_dim=8),
    "temporal": lambda: TemporalTower(DIM, EMBED, hidden_dim=8, dim=8, heads=2),
    "long_term": lambda: LongTermTower(DIM, EMBED, FBONonLocal(DIM, latent_dim=8)),
}
OBJECTIVES = {
    "clip": (ClipLoss, DiagonalPositives),
    "clip, text_id": (ClipLoss, TextIdPositives),
    "clip, text_similarity": (ClipLoss, TextSimilarityPositives),
    "egonce, verb_noun": (EgoNCELoss, VerbNounPositives),
    "siglip, verb_noun": (SigmoidLoss, VerbNounPositives),
    "bce": (BCELoss, DiagonalPositives),
}


# Every objective with one tower, every tower with one objective, and each kind of loss in chunks; `make test-slow` runs
# all.
def _quick(tower: str, name: str, chunk_size: int | None) -> bool:
    if chunk_size is None:
        return tower == "temporal" or name == "clip"
    return tower == "mlp" and name in ("clip", "egonce, verb_noun", "siglip, verb_noun")


CASES = [
    pytest.param(tower, name, chunk_size, marks=[] if _quick(tower, name, chunk_size) else [pytest.mark.slow])
    for tower in TOWERS
    for name in OBJECTIVES
    for chunk_size in (None, 4)
]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fake tensors say that they are on a GPU, so that code takes that path on a machine without one."""
    monkeypatch.setattr(FakeTensor, "is_cuda", property(lambda self: True), raising=False)
    monkeypatch.setattr("clep.losses.clip.check_has_positives", lambda counts: None)  # reads values on a CPU only


@pytest.mark.parametrize(("tower", "objective", "chunk_size"), CASES)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_no_step_reads_a_value_of_a_tensor(tower: str, objective: str, chunk_size: int | None) -> None:
    loss, positives = OBJECTIVES[objective]
    bias = -1.0 if issubclass(loss, SigmoidLoss) else None
    with FakeTensorMode():
        model, average = (
            DualEncoder(TOWERS[tower](), ProjectionHead(DIM, EMBED, hidden_dim=8), init_bias=bias) for _ in range(2)
        )
        module = ContrastiveModule(model, loss(), adamw, warmup_cosine(0.1), positives(), chunk_size=chunk_size)
        optimizer = adamw(model)
        for _ in range(2):
            # What BaseModule does in a step: loss, guard, gradients clipped, weights, bounds of the scale, average.
            value = module.compute_loss(batch())
            module.guard.skip(optimizer, module.guard.check(value))
            value.backward()
            module.configure_gradient_clipping(optimizer, 1.0)
            optimizer.step()
            module.after_step()
            update_average(average, model, 0.9, 1)


def test_reading_a_value_would_be_noticed() -> None:
    with FakeTensorMode():
        loss = torch.randn(3).sum()
        for read in (float, bool, torch.Tensor.item, torch.Tensor.tolist):
            with pytest.raises((DataDependentOutputException, RuntimeError), match=r"_local_scalar_dense|tolist"):
                read(loss)
        with pytest.raises(DynamicOutputShapeException):
            batch()["video"][batch()["video_mask"]]
