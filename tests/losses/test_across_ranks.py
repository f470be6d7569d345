"""Training on several gloo processes equals training on one with the joined batch; common wrong ways do not."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F

from clep.compute.locks import file_lock
from clep.losses import (
    AdaptiveMaxMarginLoss,
    BCELoss,
    ClipLoss,
    DiagonalPositives,
    EgoNCELoss,
    MaxMarginLoss,
    MultiPositiveNCELoss,
    PositivesRule,
    RelevancyPositives,
    SigmoidLoss,
    SymmetricMultiSimilarityLoss,
    TextIdPositives,
    TextSimilarityPositives,
    VerbNounPositives,
    across_ranks,
)

PER_RANK, STEPS = 4, 2
FORMS = ("global", "local")


class PartlyUnlabelled(PositivesRule):
    """Weighted positives; some videos and texts have none, unevenly over ranks."""

    @property
    def keys(self):
        return ("text_id",)

    def __call__(self, video_keys, text_keys):
        wanted = (video_keys["text_id"][:, None] == text_keys["text_id"][None, :]).float()
        return wanted * (1 + text_keys["position"] % 3)[None, :] / 3 * (video_keys["text_id"] > 1)[:, None]


DIAGONAL, SAME_TEXT, PARTLY = DiagonalPositives(), TextIdPositives(), PartlyUnlabelled()
OBJECTIVES = {
    "clip, diagonal": (ClipLoss(), DIAGONAL),
    "clip, same text": (ClipLoss(), SAME_TEXT),
    "clip, partly unlabelled": (ClipLoss(), PARTLY),
    "soft clip": (ClipLoss(), TextSimilarityPositives(0.3)),
    "mil_nce, diagonal": (MultiPositiveNCELoss(), DIAGONAL),
    "mil_nce, partly unlabelled": (MultiPositiveNCELoss(), PARTLY),
    "egonce": (EgoNCELoss(), VerbNounPositives()),
    "siglip, diagonal": (SigmoidLoss(chunk=3), DIAGONAL),
    "siglip, partly unlabelled": (SigmoidLoss(), PARTLY),
    "bce, diagonal": (BCELoss(), DIAGONAL),
    "bce, verb and noun": (BCELoss(chunk=3), VerbNounPositives("verb")),
    "max margin, diagonal": (MaxMarginLoss(0.3), DIAGONAL),
    "max margin, relevancy": (MaxMarginLoss(0.3), RelevancyPositives()),
    "adaptive max margin": (AdaptiveMaxMarginLoss(0.5), RelevancyPositives()),
    "symmetric multi-similarity": (SymmetricMultiSimilarityLoss(0.5), RelevancyPositives()),
}


class Model(nn.Module):
    def __init__(self, with_bias=False):
        super().__init__()
        torch.manual_seed(3)
        self.video, self.text = nn.Linear(6, 5), nn.Linear(7, 5)
        self.log_scale = nn.Parameter(torch.tensor(1.5))
        self.bias = nn.Parameter(torch.tensor(-2.0)) if with_bias else None

    def forward(self, batch):
        video, text = self.video(batch["video"]), self.text(batch["text"])
        return F.normalize(video, dim=-1), F.normalize(text, dim=-1), self.log_scale.exp(), self.bias


class NothingIsRight(PositivesRule):
    """A rule with a mistake that a user might make."""

    keys = ("text_id",)

    def __call__(self, video_keys, text_keys):
        return torch.zeros(len(video_keys["text_id"]), len(text_keys["text_id"]), dtype=torch.bool)


def batches(total):
    generator = torch.Generator().manual_seed(11)
    for _ in range(STEPS):
        yield {
            "video": torch.randn(total, 6, generator=generator),
            "text": torch.randn(total, 7, generator=generator),
            "text_id": torch.randint(-1, 5, (total,), generator=generator),
            "verb": torch.randint(-1, 3, (total, 2), generator=generator),
            "noun": torch.randint(-1, 3, (total, 3), generator=generator),
            "video_verb": torch.randint(-1, 3, (total, 1), generator=generator),
            "video_noun": torch.randint(-1, 3, (total, 1), generator=generator),
        }


def train(compute, ranks, rank=None, group=None, ddp=False):
    """SGD with gradients averaged over ranks, by hand or by DDP; `rank` None trains on the joined batch."""
    model = Model(with_bias=isinstance(getattr(compute, "loss", None), SigmoidLoss))
    model = nn.parallel.DistributedDataParallel(model) if ddp else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    values = []
    for batch in batches(ranks * PER_RANK):
        if rank is not None:
            batch = {key: value[rank * PER_RANK : (rank + 1) * PER_RANK] for key, value in batch.items()}
        optimizer.zero_grad()
        video, text, scale, bias = model(batch)
        keys = ("text_id", "text", "verb", "noun", "video_verb", "video_noun")
        loss = compute(video, text, scale, {key: batch[key] for key in keys}, bias)
        loss.backward()
        value = loss.detach().clone()
        if rank is not None:
            reduced = [value, *([] if ddp else [parameter.grad for parameter in model.parameters()])]
            joined = nn.utils.parameters_to_vector(reduced)  # one collective operation instead of seven
            distributed.all_reduce(joined, group=group)
            for tensor, mean in zip(reduced, (joined / ranks).split([one.numel() for one in reduced]), strict=True):
                tensor.copy_(mean.view_as(tensor))
        optimizer.step()
        values.append(float(value))
    return nn.utils.parameters_to_vector(model.parameters()).detach(), values


def constant_gather(own, rank, group, ranks):
    parts = [torch.empty_like(own) for _ in range(ranks)]
    distributed.all_gather(parts, own.detach(), group=group)
    parts[rank] = own
    return torch.cat(parts)


def wrong_ways(rank, ranks, group):
    """Three common mistakes: other ranks as constants with a global loss, the same with a local loss, no gather."""

    def constant_global(video, text, scale, keys, bias):
        video, text = (constant_gather(side, rank, group, ranks) for side in (video, text))
        return ClipLoss()(video, text, scale)

    def constant_local(video, text, scale, keys, bias):
        target = torch.arange(rank * PER_RANK, (rank + 1) * PER_RANK)
        others = [constant_gather(side, rank, group, ranks).detach() for side in (video, text)]
        return (
            F.cross_entropy(scale * video @ others[1].T, target) + F.cross_entropy(scale * text @ others[0].T, target)
        ) / 2

    def apart(video, text, scale, keys, bias):
        return ClipLoss()(video, text, scale)

    return {"constant global": constant_global, "constant local": constant_local, "apart": apart}


def run_rank(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    results = {}
    for ranks in (1, 2, 3):
        group = distributed.new_group(list(range(ranks)))
        if rank >= ranks:
            continue
        for form in FORMS:
            for name, (objective, positives) in OBJECTIVES.items():
                loss = across_ranks(objective, form, positives, group=group)
                results[f"{ranks} {form} {name}"] = train(loss, ranks, rank, group)
        for name, compute in wrong_ways(rank, ranks, group).items() if ranks > 1 else ():
            results[f"{ranks} {name}"] = train(compute, ranks, rank, group)
    for form in FORMS:
        for objective in (ClipLoss(), SigmoidLoss()):
            compute = across_ranks(objective, form, SAME_TEXT)
            results[f"ddp {form} {type(objective).__name__}"] = train(compute, 3, rank, ddp=True)
    uneven = torch.ones(2 + rank, 5)
    try:
        across_ranks(ClipLoss())(uneven, uneven, 1.0)
    except ValueError as error:
        results["uneven"] = str(error)
    keys, side = {"text_id": torch.arange(2)}, torch.ones(2, 5)
    for form in FORMS:
        try:
            across_ranks(ClipLoss(), form, NothingIsRight())(side, side, 1.0, keys)
        except ValueError as error:
            results[f"nothing {form}"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="session")
def results(shared_folder: Path):
    folder = shared_folder / "across_ranks"
    with file_lock(folder):
        if not (folder / "whole").exists():
            folder.mkdir()
            multiprocessing.start_processes(run_rank, args=(str(folder),), nprocs=3, start_method="forkserver")
            (folder / "whole").touch()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(3)]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_parameters_and_losses_equal_those_of_one_process(results, ranks, form, name):
    objective, positives = OBJECTIVES[name]
    one, losses = train(across_ranks(objective, form, positives), ranks)
    for rank in range(ranks):  # groups of one, two or three ranks
        parameters, values = results[rank][f"{ranks} {form} {name}"]
        torch.testing.assert_close(parameters, one, rtol=1e-5, atol=1e-6)
        assert values == pytest.approx(losses, abs=1e-5)
    first = nn.utils.parameters_to_vector(Model(isinstance(objective, SigmoidLoss)).parameters())
    assert (one - first).abs().max() > 1e-2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("objective", [ClipLoss(), SigmoidLoss()])
def test_real_ddp_too(results, form, objective):
    one, losses = train(across_ranks(objective, form, SAME_TEXT), 3)
    for result in results:
        parameters, values = result[f"ddp {form} {type(objective).__name__}"]
        torch.testing.assert_close(parameters, one, rtol=1e-5, atol=1e-6)
        assert values == pytest.approx(losses, abs=1e-5)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("way", ["constant global", "constant local", "apart"])
def test_the_wrong_ways_are_wrong(results, ranks, way):
    one, _ = train(across_ranks(ClipLoss()), ranks)
    parameters, _ = results[0][f"{ranks} {way}"]
    assert (parameters - one).abs().max() > 1e-3


def test_uneven_batches_are_refused_on_every_rank(results):
    for result in results:
        assert "[2, 3, 4]" in result["uneven"]


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_without_any_positive_is_refused_on_every_rank(results, form):
    for result in results:
        assert "no video has a positive text" in result[f"nothing {form}"]


def test_one_process_equals_the_loss():
    model, batch = Model(), next(batches(8))
    video, text, scale, _ = model(batch)
    for form in FORMS:
        torch.testing.assert_close(across_ranks(ClipLoss(), form)(video, text, scale), ClipLoss()(video, text, scale))


def test_other_forms_are_refused():
    with pytest.raises(ValueError, match="'local_loss'; choose global or local. Both propagate the gradient"):
        across_ranks(ClipLoss(), "local_loss")
    with pytest.raises(ValueError, match="Identity has no share"):
        across_ranks(nn.Identity(), "local")


def test_keys_are_checked():
    loss, side = across_ranks(ClipLoss(), "global", SAME_TEXT), torch.ones(3, 2)
    with pytest.raises(ValueError, match="pass keys"):
        loss(side, side, 1.0)
    with pytest.raises(ValueError, match=r"text_id.: 2"):
        loss(side, side, 1.0, {"text_id": torch.arange(2)})
