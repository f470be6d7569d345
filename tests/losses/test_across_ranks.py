"""Training on several gloo processes equals training on one with the joined batch, and the wrong ways do not."""

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F

from clep.losses import ClipLoss, across_ranks, same_text

PER_RANK, STEPS = 4, 3
FORMS = ("global", "local")


def partly_unlabelled(video_keys, text_keys):
    """Positives with weights, where some videos and texts have none at all, unevenly over ranks."""
    wanted = (video_keys["text_id"][:, None] == text_keys["text_id"][None, :]).float()
    return wanted * (1 + text_keys["position"] % 3)[None, :] * (video_keys["text_id"] > 1)[:, None]


POSITIVES = {"diagonal": None, "same text": same_text, "partly unlabelled": partly_unlabelled}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.video, self.text = nn.Linear(6, 5), nn.Linear(7, 5)
        self.log_scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, batch):
        video, text = self.video(batch["video"]), self.text(batch["text"])
        return F.normalize(video, dim=-1), F.normalize(text, dim=-1), self.log_scale.exp()


def batches(total):
    generator = torch.Generator().manual_seed(11)
    for _ in range(STEPS):
        yield {
            "video": torch.randn(total, 6, generator=generator),
            "text": torch.randn(total, 7, generator=generator),
            "text_id": torch.randint(-1, 5, (total,), generator=generator),
        }


def train(compute, ranks, rank=None, group=None, ddp=False):
    """SGD with gradients averaged over ranks, by hand or by DDP; `rank` None trains on the joined batch."""
    model = nn.parallel.DistributedDataParallel(Model()) if ddp else Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    values = []
    for batch in batches(ranks * PER_RANK):
        if rank is not None:
            batch = {key: value[rank * PER_RANK : (rank + 1) * PER_RANK] for key, value in batch.items()}
        optimizer.zero_grad()
        loss = compute(*model(batch), {"text_id": batch["text_id"]})
        loss.backward()
        value = loss.detach()
        if rank is not None:
            for tensor in [value, *([] if ddp else [parameter.grad for parameter in model.parameters()])]:
                distributed.all_reduce(tensor, group=group)
                tensor /= ranks
        optimizer.step()
        values.append(float(value))
    return nn.utils.parameters_to_vector(model.parameters()).detach(), values


def constant_gather(own, rank, group, ranks):
    parts = [torch.empty_like(own) for _ in range(ranks)]
    distributed.all_gather(parts, own.detach(), group=group)
    parts[rank] = own
    return torch.cat(parts)


def wrong_ways(rank, ranks, group):
    """Three ways met in the wild: others as constants with a global loss, the same with a local one, no gather."""

    def constant_global(video, text, scale, keys):
        video, text = (constant_gather(side, rank, group, ranks) for side in (video, text))
        return ClipLoss()(video, text, scale)

    def constant_local(video, text, scale, keys):
        target = torch.arange(rank * PER_RANK, (rank + 1) * PER_RANK)
        others = [constant_gather(side, rank, group, ranks).detach() for side in (video, text)]
        return (
            F.cross_entropy(scale * video @ others[1].T, target) + F.cross_entropy(scale * text @ others[0].T, target)
        ) / 2

    def apart(video, text, scale, keys):
        return ClipLoss()(video, text, scale)

    return {"constant global": constant_global, "constant local": constant_local, "apart": apart}


def run_rank(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    results = {}
    for ranks in (2, 3):
        group = distributed.new_group(list(range(ranks)))
        if rank >= ranks:
            continue
        for form in FORMS:
            for name, positives in POSITIVES.items():
                loss = across_ranks(ClipLoss(), form, positives, group=group)
                results[f"{ranks} {form} {name}"] = train(loss, ranks, rank, group)
        for name, compute in wrong_ways(rank, ranks, group).items():
            results[f"{ranks} {name}"] = train(compute, ranks, rank, group)
    for form in FORMS:
        results[f"ddp {form}"] = train(across_ranks(ClipLoss(), form, same_text), 3, rank, ddp=True)
    uneven = torch.ones(2 + rank, 5)
    try:
        across_ranks(ClipLoss())(uneven, uneven, 1.0)
    except ValueError as error:
        results["uneven"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(run_rank, args=(str(folder),), nprocs=3)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(3)]


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", list(POSITIVES))
def test_parameters_and_losses_are_those_of_one_process(results, ranks, form, name):
    one, losses = train(across_ranks(ClipLoss(), form, POSITIVES[name]), ranks)
    for rank in range(ranks):
        parameters, values = results[rank][f"{ranks} {form} {name}"]
        torch.testing.assert_close(parameters, one, rtol=1e-5, atol=1e-6)
        assert values == pytest.approx(losses, abs=1e-5)
    assert not torch.allclose(one, nn.utils.parameters_to_vector(Model().parameters()), atol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_real_ddp_too(results, form):
    one, losses = train(across_ranks(ClipLoss(), form, same_text), 3)
    for result in results:
        parameters, values = result[f"ddp {form}"]
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


def test_one_process_is_the_loss_itself():
    model, batch = Model(), next(batches(8))
    video, text, scale = model(batch)
    for form in FORMS:
        torch.testing.assert_close(across_ranks(ClipLoss(), form)(video, text, scale), ClipLoss()(video, text, scale))


def test_other_forms_cannot_be_configured():
    with pytest.raises(ValueError, match="local_loss"):
        across_ranks(ClipLoss(), "local_loss")
    with pytest.raises(ValueError, match="share"):
        across_ranks(nn.Identity(), "local")


def test_keys_are_checked():
    loss, side = across_ranks(ClipLoss(), "global", same_text), torch.ones(3, 2)
    with pytest.raises(ValueError, match="none were given"):
        loss(side, side, 1.0)
    with pytest.raises(ValueError, match=r"text_id.: 2"):
        loss(side, side, 1.0, {"text_id": torch.arange(2)})
