"""References for the zero-shot accuracy of `experiment=demo`: a supervised probe on the same features, and chance."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clep.compute.threads import one_core_each
from clep.demo.encoder import FrozenEncoder
from clep.demo.features import SyntheticFeatures
from clep.demo.simulate import encode_labelled_clip, read_kinetics
from clep.evaluation import Evaluator
from clep.models import DualEncoder

_EPOCHS = 200
_PATIENCE = 15
_BATCH = 512


class ProbeReference(Evaluator):
    """`reference/kinetics/probe_top1` (supervised) and `reference/kinetics/chance_top1`, in percent.

    They do not depend on the model, so they are measured once.

    Args:
        dataset: folder of a `SyntheticFeatures` dataset.
        clips_per_class: training clips of the probe per class.
        seed: of these clips and of the probe.
    """

    depends_on_model = False

    def __init__(self, dataset: str, clips_per_class: int = 20, seed: int = 0) -> None:
        super().__init__()
        self.dataset, self.clips_per_class, self.seed = dataset, clips_per_class, seed
        self._measured: dict[str, float] = {}

    def measure(self, model: DualEncoder) -> dict[str, float]:
        """Return the two metrics; `model` is not used."""
        if not self._measured:
            with torch.inference_mode(False), torch.enable_grad():  # evaluation has switched both
                probe = supervised_probe(self.dataset, self.clips_per_class, self.seed)
            self.coverage = {
                "clips": probe["test_clips"],
                "classes": probe["classes"],
                "training clips": probe["train_clips"],
            }
            self._measured = {
                "reference/kinetics/probe_top1": probe["top1"],
                "reference/kinetics/chance_top1": probe["chance"],
            }
        return dict(self._measured)


def chance(classes: int) -> float:
    """Return the top-1 accuracy, in percent, of a random guess among `classes` classes."""
    return 100.0 / classes


@contextmanager
def _one_thread() -> Iterator[None]:
    # Products of small matrices wait longer for each other's threads than they compute, most of all on a busy machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def probe_top1(
    train: Float[Tensor, "clips dim"],
    train_label: Int[Tensor, " clips"],
    test: Float[Tensor, "tests dim"],
    test_label: Int[Tensor, " tests"],
    seed: int = 0,
    weight_decay: float = 1e-2,
) -> float:
    """Train a multinomial logistic regression and return its top-1 accuracy on the test clips, in percent.

    Features are standardised with the training clips. A tenth of these, drawn with `seed`, is held out for early
    stopping: training ends after 15 epochs without a lower held-out loss, and the weights of the best epoch are used.
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


def supervised_probe(dataset: str | Path, clips_per_class: int = 20, seed: int = 0) -> dict[str, int | float]:
    """Measure a supervised linear probe on the Kinetics clips of a synthetic dataset, trained on other clips.

    The training clips are generated here with the dataset's encoder and never written, so that no model can train on
    them by mistake. Features are averaged over each clip; the test clips are read from the dataset's files.

    Args:
        dataset: folder of a `SyntheticFeatures` dataset.
        clips_per_class: training clips per class.
        seed: of these clips and of the probe.

    Returns:
        `top1` and `chance` in percent, `classes`, `train_clips`, `test_clips`.

    Raises:
        InputError: the folder holds no complete dataset.
    """
    dataset = Path(dataset)
    description = SyntheticFeatures.read(dataset)
    encoder = FrozenEncoder(description["seed"], SyntheticFeatures.from_dict(description["settings"]).encoder)
    tests = read_kinetics(dataset / "kinetics" / "val.csv")
    labels = sorted({label for _, label, _ in tests})
    clips = [(label, f"probe {seed} {label} {clip}") for label in labels for clip in range(clips_per_class)]
    with one_core_each(os.cpu_count()) as threads:
        encoded = threads.map(lambda clip: encode_labelled_clip(encoder, clip[1], clip[0]).mean(0), clips)
        train = torch.stack(list(encoded))
    features = dataset / "kinetics" / "features"
    test = torch.stack([torch.load(features / f"{name}.pt", weights_only=True).float().mean(0) for name, _, _ in tests])
    top1 = probe_top1(
        train,
        torch.arange(len(labels)).repeat_interleave(clips_per_class),
        test,
        torch.tensor([labels.index(label) for _, label, _ in tests]),
        seed,
    )
    return {
        "top1": top1,
        "chance": chance(len(labels)),
        "classes": len(labels),
        "train_clips": len(train),
        "test_clips": len(test),
    }
