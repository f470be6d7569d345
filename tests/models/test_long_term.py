import pytest
import torch

from clep.errors import InputError
from clep.models import DualEncoder, FBOAvg, FBONonLocal, LongTermTower, ProjectionHead

DIM, OUT = 6, 4


def config(operator: str = "FBONonLocal", **options: object) -> dict:
    tower = {
        "in_dim": DIM,
        "out_dim": OUT,
        "operator": {"_target_": f"clep.models.{operator}", "in_dim": DIM, **options},
    }
    text = {"_target_": "clep.models.ProjectionHead", "in_dim": 5, "out_dim": OUT}
    return {"video": {"_target_": "clep.models.LongTermTower", **tower}, "text": text}


def make_batch(rows: int | None = None, slots: int = 7) -> dict[str, torch.Tensor]:
    mask = torch.rand(3, slots) < 0.6
    mask[0], mask[1] = True, False
    shape = (3, DIM) if rows is None else (3, rows, DIM)
    return {"video": torch.randn(shape), "context": torch.randn(3, slots, DIM), "context_mask": mask}


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval()


@pytest.mark.parametrize("operator", ["FBONonLocal", "FBOAvg", "FBOMax", "FBONone"])
def test_short_and_long_are_joined_and_projected(operator: str) -> None:
    tower, batch = stirred(DualEncoder.from_config(config(operator))).video, make_batch()
    found = tower.operator(batch["video"], batch["context"], batch["context_mask"])
    assert found.shape[1] == tower.operator.out_dim
    torch.testing.assert_close(tower(batch), tower.head(torch.cat([batch["video"], found], 1)))
    other = {**batch, "context": torch.randn_like(batch["context"])}
    differs = (tower(batch) != tower(other)).any(1).tolist()
    assert differs == [operator != "FBONone", False, operator != "FBONone" and bool(batch["context_mask"][2].any())]


def test_the_operator_is_applied_to_each_row_and_averaged() -> None:
    tower, batch = stirred(LongTermTower(DIM, OUT, FBONonLocal(DIM, latent_dim=8))), make_batch(rows=4)
    lengths = [4, 1, 3]
    batch["video_mask"] = torch.arange(4)[None] < torch.tensor(lengths)[:, None]
    batch["video"][~batch["video_mask"]] = torch.nan
    found = tower(batch)
    for one, length in enumerate(lengths):
        row = batch["video"][one, :length]
        around = [
            batch[key][one : one + 1].expand(length, *batch[key].shape[1:]) for key in ("context", "context_mask")
        ]
        joined = torch.cat([row, tower.operator(row, *around)], 1).mean(0)
        torch.testing.assert_close(found[one], tower.head(joined[None])[0])
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in tower.parameters() if parameter.grad is not None)
    whole = {**batch, "video": batch["video"].nan_to_num(), "video_mask": None}
    del whole["video_mask"]
    every = {**whole, "video_mask": torch.ones(3, 4, dtype=torch.bool)}
    torch.testing.assert_close(tower(whole), tower(every))


@pytest.mark.parametrize("operator", ["FBONonLocal", "FBOAvg", "FBOMax", "FBONone"])
@pytest.mark.parametrize("rows", [None, 4])
def test_shared_rows_equal_a_context_for_each_moment(operator: str, rows: int | None) -> None:
    tower, batch = stirred(DualEncoder.from_config(config(operator))).video, make_batch(rows)
    shared, own = torch.randn(9, DIM), torch.rand(3, 9) < 0.5
    own[1] = False
    each = shared.expand(3, 9, DIM).masked_fill(~own[:, :, None], 0)
    if rows is not None:
        batch["video_mask"] = torch.arange(rows) < torch.tensor([[4], [1], [2]])
    found = tower({**batch, "context": shared, "context_mask": own})
    torch.testing.assert_close(found, tower({**batch, "context": each, "context_mask": own}), rtol=1e-5, atol=1e-5)


def test_half_precision() -> None:
    model, batch = stirred(DualEncoder.from_config(config(latent_dim=8))), make_batch(rows=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.encode_video(batch)
    assert found.dtype == torch.float32
    assert ((found * model.encode_video(batch)).sum(1) > 0.98).all()


def test_it_is_saved_and_loaded(tmp_path) -> None:
    model, batch = stirred(DualEncoder.from_config(config(latent_dim=8, num_layers=3))), make_batch()
    model.save_pretrained(tmp_path)
    loaded = DualEncoder.from_pretrained(tmp_path)
    assert isinstance(loaded.video.operator, FBONonLocal)
    assert torch.equal(loaded.encode_video(batch), model.encode_video(batch))


def test_a_batch_without_context_is_refused_with_the_remedy() -> None:
    tower, batch = LongTermTower(DIM, OUT, FBOAvg(DIM)), make_batch()
    for key in ("context", "context_mask"):
        with pytest.raises(InputError, match="set data.context"):
            tower({name: value for name, value in batch.items() if name != key})
    with pytest.raises(ValueError, match="no 'video'"):
        tower({})
    with pytest.raises(InputError, match="in_dim=6"):
        tower({**batch, "context": torch.randn(3, 7, 5)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": {"_target_": "clep.models.FBOAvg", "in_dim": 5}}, "the tower has in_dim=.*set both to it"),
        ({"operator": {"_target_": "clep.models.FBOAvg", "in_dim": 6, "context_dim": 3}}, "context_dim=3"),
        (
            {"operator": {"_target_": "clep.models.FBOAvg", "in_dims": 6}},
            "model.video.operator.in_dims: .*Did you mean 'in_dim'",
        ),
        ({"operator": {"_target_": "subprocess.run"}}, "'subprocess.run' is not allowed"),
        ({"layers": 0}, "layers"),
    ],
)
def test_configs_are_checked(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DualEncoder.from_config({**config(), "video": {**config()["video"], **change}})


def test_without_an_operator_it_is_the_projection_of_the_window() -> None:
    model, batch = stirred(DualEncoder.from_config(config("FBONone"))), make_batch(rows=4)
    batch["video_mask"] = torch.rand(3, 4) < 0.7
    plain = ProjectionHead(DIM, OUT)
    plain.load_state_dict(model.video.head.state_dict())
    other = DualEncoder(plain, model.text)
    torch.testing.assert_close(model.encode_video(batch), other.encode_video(batch))
