"""Seconds of a zero-shot evaluation at real size: `python -m benchmarks.zero_shot [key=value …]`.

Kinetics' 19,906 clips × 400 classes with one label each, and Charades-Ego's 7,860 videos × 157 classes with several.
The baseline is a DataLoader loop at batch 1 over an HDF5 file with one dataset for each clip, without workers and with
the workers of the tutorial; for several labels, a Python loop over the ranks of each class follows. Its text
classifier is built once. The loop without workers runs over all clips once, and must find the same metrics as the
evaluator, which measures the same model on the same features. Then the evaluator and both loops take turns: the loops
on a sample of the clips, spread over the file, from their first clip on, multiplied by the number of clips.
The parts of the evaluator follow, see `zero_shot_parts`.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import h5py
import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.our_training import experiment
from benchmarks.report import RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, paired_ratio, seconds_of, take_turns
from benchmarks.zero_shot_parts import parts_of
from clep.bank import BankWriter, Clock, FeatureBank
from clep.checksums import write_checked_json
from clep.data import LabelledClips
from clep.evaluation import EgoCharadesZeroShot, KineticsZeroShot
from clep.evaluation.zero_shot import ZeroShot
from clep.losses import ClipLoss
from clep.models import DualEncoder
from clep.training.settings import fill_in_dims

ENCODER = "all-mpnet-base-v2"
ALONE = "loop without workers"


@dataclass
class Task:
    """Size of one evaluation set; `rows` of each clip, 18 being ten seconds."""

    clips: int
    classes: int
    rows: int = 18


@dataclass
class Settings:
    """Settings of this benchmark; `spread` is the distance of clips from their class, which causes errors.

    `sample` clips are timed in each turn of a loop. `peak_side` is the side of the square product and `copy_mb` the
    size of the copy that give the machine's peak.
    """

    results: str = str(RESULTS)
    repeats: int = 5
    kinetics: Task = field(default_factory=lambda: Task(19_906, 400))
    ego_charades: Task = field(default_factory=lambda: Task(7_860, 157))
    dim: int = 1536
    text_dim: int = 768
    spread: float = 9.0
    training_steps: int = 40
    workers: int = 2
    sample: int = 2000
    peak_side: int = 2048
    copy_mb: int = 256


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    report = Report("zero_shot", settings, settings.results)
    for name, task in (("kinetics", settings.kinetics), ("ego_charades", settings.ego_charades)):
        with tempfile.TemporaryDirectory() as folder:
            found = compare(name, task, settings, Path(folder))
        report.add(name, found)
        bound = f"at most {found['highest_ratio']:.0f} if matrix products and copies were all that takes time"
        for loop, ratio in found["ratio"].items():
            report.target(f"{name}: {loop} ÷ ours", ratio["ratio"], at_least=50, note=bound if loop == ALONE else "")
        for bank, difference in found["largest_difference"].items():
            report.target(f"{name}: largest difference of a metric, {bank}, percent points", difference, at_most=0.01)
    return report.write()


def compare(name: str, task: Task, settings: Settings, folder: Path) -> dict[str, Any]:
    """Make the files of one evaluation set in `folder`, measure both sides and the parts of ours."""
    clips, model = _make(name, task, settings, folder)
    evaluator = KineticsZeroShot if name == "kinetics" else EgoCharadesZeroShot
    files = _ClipFiles(folder / "per_clip.hdf5", clips.ids)

    started = perf_counter()
    classifier = _baseline_classifier(model, folder, task.classes)
    text_s = perf_counter() - started
    scores, _ = _baseline_scores(files, model, classifier, 0)
    started = perf_counter()
    expected = _accuracies(scores, clips) if clips.label is not None else _mean_average_precisions(scores, clips)
    metric_s = perf_counter() - started
    sample = Subset(
        files, np.linspace(0, len(clips) - 1, min(settings.sample, len(clips))).round().astype(int).tolist()
    )

    def loop(workers: int) -> float:
        files.close()
        return _baseline_scores(sample, model, classifier, workers)[1] * len(clips) + text_s + metric_s

    def ours() -> ZeroShot:
        fresh = evaluator(str(folder), ENCODER)
        fresh.run(model)
        return fresh

    several = f"loop with {settings.workers} workers"
    sides = {"ours": seconds_of(ours), ALONE: lambda: loop(0), several: lambda: loop(settings.workers)}
    raw = take_turns(sides, settings.repeats)
    middle = medians(raw)

    files.close()
    last = ours()
    # The baseline's own file in RAM: float32, where the bank is float16 and means are rounded to that once.
    exact = evaluator(str(folder), ENCODER)
    rows = FeatureBank.open(folder / "per_clip.hdf5", device="cpu", clock=Clock())
    exact._opened = (clips, rows, FeatureBank.open(folder / f"prompts.{ENCODER}.h5"))
    metrics = {"float16 bank": last.run(model), "float32 bank": exact.run(model)}
    del exact, rows
    parts = parts_of(last, model, settings.repeats, settings.peak_side, settings.copy_mb)
    table(
        f"{name}: {task.clips:,} clips × {task.classes} classes",
        ("", "seconds", *(metric.removeprefix("zeroshot/") for metric in expected)),
        [
            (several, middle[several], *[None] * len(expected)),
            (ALONE, middle[ALONE], *expected.values()),
            ("ours", middle["ours"], *metrics["float16 bank"].values()),
        ],
    )
    return {
        "seconds": raw,
        "median": middle,
        "ratio": {side: paired_ratio(raw, side, "ours") for side in (ALONE, several)},
        "highest_ratio": middle[ALONE] / parts["bound_s"],
        "parts": parts,
        "baseline_metrics": expected,
        "ours_metrics": metrics,
        "largest_difference": {
            name: max(abs(one[metric] - value) for metric, value in expected.items()) for name, one in metrics.items()
        },
    }


class _ClipFiles(Dataset[Tensor]):
    """The rows of one clip an item, `[rows, dim]`, from a dataset of its own."""

    def __init__(self, path: Path, ids: list[str]) -> None:
        self.path, self.ids = path, ids
        self._opened: h5py.File | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Tensor:
        if self._opened is None:
            self._opened = h5py.File(self.path, "r")
        return torch.from_numpy(self._opened[self.ids[index]][:])

    def close(self) -> None:
        """Close the file, which must not be open when workers fork."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None


@torch.no_grad()
def _baseline_classifier(model: DualEncoder, folder: Path, classes: int) -> Tensor:
    with h5py.File(folder / f"prompts.{ENCODER}.h5") as file:
        prompts = torch.from_numpy(file["rows"][:])
    templates = F.normalize(model.text(prompts), dim=-1).unflatten(0, (classes, -1))
    return F.normalize(templates.mean(1), dim=-1).T


@torch.no_grad()
def _baseline_scores(files: Dataset, model: DualEncoder, classifier: Tensor, workers: int) -> tuple[Tensor, float]:
    """Return the scores of each clip, and the seconds of a clip after the first one, for which workers start."""
    scores, started = [], 0.0
    for rows in DataLoader(files, batch_size=1, num_workers=workers):
        video = F.normalize(model.video(rows.mean(1)), dim=-1)
        scores.append((video @ classifier)[0])
        started = started or perf_counter()
    return torch.stack(scores), (perf_counter() - started) / max(len(scores) - 1, 1)


def _accuracies(scores: Tensor, clips: LabelledClips) -> dict[str, float]:
    right = {1: 0, 5: 0}
    assert clips.label is not None
    for row, label in zip(scores, clips.label.tolist(), strict=True):
        best = row.topk(5).indices.tolist()
        for k in right:
            right[k] += label in best[:k]
    return {f"zeroshot/kinetics/top{k}": 100 * count / len(scores) for k, count in right.items()}


def _mean_average_precisions(scores: Tensor, clips: LabelledClips) -> dict[str, float]:
    assert clips.labels is not None
    assert clips.first_person is not None
    ego = clips.first_person
    subsets = {"ego": ego, "exo": ~ego, "all": np.ones(len(ego), bool)}
    return {
        f"zeroshot/ego_charades/{subset}/label/mAP": _mean_average_precision(
            scores.numpy()[chosen], clips.labels[chosen]
        )
        for subset, chosen in subsets.items()
    }


def _mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    precisions = []
    for number in range(scores.shape[1]):
        ranked = labels[np.argsort(-scores[:, number], kind="stable"), number].tolist()
        found, total = 0, 0.0
        for place, hit in enumerate(ranked, start=1):
            if hit:
                found += 1
                total += found / place
        if found:
            precisions.append(total / found)
    return 100 * sum(precisions) / len(precisions)


def _make(name: str, task: Task, settings: Settings, folder: Path) -> tuple[LabelledClips, DualEncoder]:
    """Write the files of both sides, and train a model for a moment, so that its figures are not those of chance."""
    rng = np.random.default_rng(0)
    classes = [f"class {number}" for number in range(task.classes)]
    ids = [f"clip-{number:05d}" for number in range(task.clips)]
    label = rng.integers(0, task.classes, task.clips)
    first_person = np.arange(task.clips) % 2 == 0
    if name == "kinetics":
        clips = LabelledClips(name, ids, classes, label=label)
    else:
        labels = (rng.random((task.clips, task.classes)) < 6 / task.classes).astype(np.uint8)
        labels[np.arange(task.clips), label] = 1
        clips = LabelledClips(name, ids, classes, labels=labels, first_person=first_person)
    clips.write(folder / "clips.h5")

    centres = rng.standard_normal((task.classes, settings.dim), dtype=np.float32)
    prompts = rng.standard_normal((task.classes, settings.text_dim), dtype=np.float32)
    prompt_set = "prompt" if name == "kinetics" else "label"
    with BankWriter(folder / f"prompts.{ENCODER}.h5", settings.text_dim, None, "float32", encoder=ENCODER) as writer:
        writer.add(prompt_set, prompts)
    write_checked_json(folder / "prompts.json", {"classes": classes, "sets": {prompt_set: [[one] for one in classes]}})

    noise = rng.standard_normal((4096, settings.dim), dtype=np.float32)
    own = rng.standard_normal((64, settings.dim), dtype=np.float32)
    with (
        h5py.File(folder / "per_clip.hdf5", "w") as file,
        BankWriter(folder / "features.h5", settings.dim, Clock(), n_rows=task.clips * task.rows) as writer,
    ):
        for number, uid in enumerate(ids):
            start = int(rng.integers(0, len(noise) - task.rows + 1))
            weight = rng.standard_normal(len(own)).astype(np.float32) * (settings.spread / len(own) ** 0.5)
            rows = (centres[label[number]] + weight @ own + noise[start : start + task.rows]).astype(np.float16)
            writer.add(uid, rows)
            file.create_dataset(uid, data=rows.astype(np.float32))
    return clips, _model(torch.from_numpy(centres), torch.from_numpy(prompts), settings)


def _model(centres: Tensor, prompts: Tensor, settings: Settings) -> DualEncoder:
    torch.manual_seed(0)
    cfg = experiment(["experiment=ego4d_clip", "paths.run='.'"])
    plain = OmegaConf.to_container(cfg.model, resolve=True)
    assert isinstance(plain, dict)
    model = DualEncoder.from_config(fill_in_dims(plain, settings.dim, settings.text_dim))
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-3), ClipLoss()
    for _ in range(settings.training_steps):
        noisy = centres + settings.spread / 4 * torch.randn_like(centres)
        value = loss(model.encode_video({"video": noisy}), model.encode_text({"text": prompts}), model.logit_scale)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return model.eval()


if __name__ == "__main__":
    main()
