import math

import pytest
import torch

from clep.errors import InputError
from clep.models import DualEncoder, FBOAvg, LongTermTower, ProjectionHead, TemporalAttention, TemporalTower
from clep.models.pooling import masked_mean


def tower(**options: object) -> TemporalTower:
    torch.manual_seed(2)
    return TemporalTower(5, 4, **{"hidden_dim": 8, "dim": 8, "heads": 2, **options}).eval()


def batch() -> dict[str, torch.Tensor]:
    mask = torch.rand(6, 7) < 0.6
    mask[0], mask[1] = True, False
    return {"video": torch.randn(6, 7, 5), "video_mask": mask}


def test_it_is_the_gated_sum_of_the_mean_and_the_attention() -> None:
    made, given = tower(), batch()
    with torch.no_grad():
        made.mixture.gate.copy_(torch.tensor([-50.0, -1.0, 0.0, 50.0]))
    mean = made.head(masked_mean(given["video"], given["video_mask"]))
    attended = made.mixture.out(made.mixture.attention(given["video"], given["video_mask"]))
    share = torch.tensor([0.0, 1 / (1 + math.e), 0.5, 1.0])
    torch.testing.assert_close(made(given), (1 - share) * mean + share * attended)


def test_training_starts_near_the_path_of_the_mean() -> None:
    made, given = tower(gate=0.01), batch()
    assert torch.allclose(made.mixture.gate.sigmoid(), torch.full((4,), 0.01))
    mean = made.head(masked_mean(given["video"], given["video_mask"]))
    assert (made(given) - mean).abs().max() < 0.05
    made(given).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.parameters() if p.numel() > 1)


def test_a_window_without_rows_has_an_embedding_and_finite_gradients() -> None:
    made, given = tower(), batch()
    given["video"][1] = math.nan
    found = made(given)
    share = made.mixture.gate.sigmoid()
    nothing = (1 - share) * made.head(torch.zeros(5)) + share * made.mixture.out(torch.zeros(8))
    torch.testing.assert_close(found[1], nothing)
    found.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters())


def test_it_learns_order_which_the_mean_cannot() -> None:
    torch.manual_seed(0)
    made = tower(gate=0.05).train()
    head = ProjectionHead(5, 4, 8)
    kinds = torch.randn(4, 5)  # four windows of the same two rows in two orders
    optimizer = torch.optim.Adam([*made.parameters(), *head.parameters()], lr=0.02)
    target = torch.arange(64) % 2

    def windows() -> torch.Tensor:
        rows = kinds[:2].expand(64, 2, 5).clone()
        rows[target == 1] = rows[target == 1].flip(1)
        return rows + 0.05 * torch.randn(64, 2, 5)

    for _ in range(80):
        optimizer.zero_grad()
        rows = windows()
        loss = torch.nn.functional.cross_entropy(made({"video": rows})[:, :2], target)
        blind = torch.nn.functional.cross_entropy(head(rows.mean(1))[:, :2], target)
        (loss + blind).backward()
        optimizer.step()
    assert loss < 0.2
    assert blind > 0.5


def test_means_are_refused_with_the_setting() -> None:
    with pytest.raises(InputError, match=r"data\.window\.pool=rows"):
        tower()({"video": torch.zeros(2, 5)})


def test_a_dual_encoder_with_it_is_saved_and_loaded(tmp_path) -> None:
    video = {"_target_": "clep.models.TemporalTower", "in_dim": 5, "out_dim": 4, "dim": 8, "heads": 2}
    text = {"_target_": "clep.models.ProjectionHead", "in_dim": 3, "out_dim": 4}
    model = DualEncoder.from_config({"video": video, "text": text}).eval()
    model.save_pretrained(tmp_path)
    given = batch()
    torch.testing.assert_close(DualEncoder.from_pretrained(tmp_path).encode_video(given), model.encode_video(given))


@pytest.mark.parametrize("gate", [0.0, 1.0, -3.0])
def test_a_gate_out_of_range_is_refused(gate: float) -> None:
    with pytest.raises(InputError, match="gate="):
        tower(gate=gate)


def test_it_composes_with_the_long_term_tower() -> None:
    torch.manual_seed(3)
    attention, given = TemporalAttention(5, dim=8, heads=2), batch()
    made = LongTermTower(5, 4, FBOAvg(5, latent_dim=3), hidden_dim=8, attention=attention, gate=0.3).eval()
    given |= {"context": torch.randn(6, 9, 5), "context_mask": torch.rand(6, 9) < 0.5}
    mixture, made.mixture = made.mixture, None
    alone = made(given)
    made.mixture = mixture
    attended = mixture.out(attention(given["video"], given["video_mask"]))
    torch.testing.assert_close(made(given), 0.7 * alone + 0.3 * attended)
    with pytest.raises(InputError, match=r"data\.window\.pool=rows"):
        made(given | {"video": torch.zeros(6, 5)})
