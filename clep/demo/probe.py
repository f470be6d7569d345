"""The supervised ceiling of the demo world: a linear probe trained on other clips of the zero-shot classes."""

import csv
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clep.demo.encoding_threads import map_videos, one_thread
from clep.demo.frozen_encoder import FrozenEncoder
from clep.demo.settings import WorldSettings
from clep.demo.simulate import encode_labelled_clip
from clep.demo.world import read_world

_EPOCHS = 200
_PATIENCE = 15
_BATCH = 512


def chance(classes: int) -> float:
    """Give the top-1 accuracy, in percent, of a guess among `classes` classes."""
    return 100.0 / classes


@one_thread()
def probe_top1(
    train: Float[Tensor, "clips dim"],
    train_label: Int[Tensor, " clips"],
    test: Float[Tensor, "tests dim"],
    test_label: Int[Tensor, " tests"],
    seed: int = 0,
    weight_decay: float = 1e-2,
) -> float:
    """Train a multinomial logistic regression and give its top-1 accuracy on the test clips, in percent.

    Features are standardised by the training clips. A tenth of these, drawn with `seed`, decides when to stop: the
    weights of the epoch with the lowest held-out loss are used, and 15 epochs without a better one end the training.
    """
    generator = torch.Generator().manual_seed(seed)
    centre, spread = train.mean(0), train.std(0).clamp_min(1e-6)
    train, test = (train - centre) / spread, (test - centre) / spread
    order = torch.randperm(len(train), generator=generator)
    held, kept = order[: max(1, len(train) // 10)], order[max(1, len(train) // 10) :]
    classes = int(torch.cat([train_label, test_label]).max()) + 1

    linear = torch.nn.Linear(train.shape[1], classes)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    optimiser = torch.optim.AdamW(linear.parameters(), lr=1e-3, weight_decay=weight_decay)
    best, best_loss, since = linear.state_dict(), float("inf"), 0
    for _ in range(_EPOCHS):
        for batch in kept[torch.randperm(len(kept), generator=generator)].split(_BATCH):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(linear(train[batch]), train_label[batch]).backward()
            optimiser.step()
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(linear(train[held]), train_label[held]).item()
        since += 1
        if loss < best_loss:
            best, best_loss, since = {name: value.clone() for name, value in linear.state_dict().items()}, loss, 0
        if since >= _PATIENCE:
            break
    linear.load_state_dict(best)
    with torch.no_grad():
        return 100.0 * (linear(test).argmax(1) == test_label).double().mean().item()


def probe_ceiling(world: str | Path, clips_per_class: int = 20, seed: int = 0) -> dict[str, int | float]:
    """Measure what supervision reaches on the Kinetics-like clips of a demo world, given other clips of their classes.

    The training clips are made here, by the world's own encoder, and never written: no model can be trained on them by
    mistake. Clips are mean-pooled; the test clips are read from the world's files.

    Returns:
        `top1` and `chance` in percent, `classes`, `train_clips`, `test_clips`.

    Raises:
        InputError: the folder holds no whole demo world.
    """
    world = Path(world)
    made = read_world(world)
    encoder = FrozenEncoder(made["seed"], WorldSettings.from_dict(made["settings"]).encoder)
    with (world / "kinetics" / "val.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    labels = sorted({line["label"] for line in lines})
    number = {label: i for i, label in enumerate(labels)}
    clips = [(label, f"probe {seed} {label} {clip}") for label in labels for clip in range(clips_per_class)]
    train = torch.stack(list(map_videos(lambda clip: encode_labelled_clip(encoder, clip[1], clip[0]).mean(0), clips)))
    names = [f"{line['youtube_id']}_{int(line['time_start']):06d}_{int(line['time_end']):06d}.pt" for line in lines]
    features = world / "kinetics" / "features"
    test = torch.stack([torch.load(features / name, weights_only=True).float().mean(0) for name in names])
    top1 = probe_top1(
        train,
        torch.arange(len(labels)).repeat_interleave(clips_per_class),
        test,
        torch.tensor([number[line["label"]] for line in lines]),
        seed,
    )
    return {
        "top1": top1,
        "chance": chance(len(labels)),
        "classes": len(labels),
        "train_clips": len(train),
        "test_clips": len(test),
    }
