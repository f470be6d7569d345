"""Examples per second of training: `python -m benchmarks.training [key=value …]`.

The baseline is the tutorial's model and loop over its loader. Ours is the same model, optimizer and loss
(`experiment=ego4d_tutorial`) in our trainer, from a float16 bank on disk; and CLIP proper (`experiment=ego4d_clip`)
beside it. "gathered before" is our trainer over tensors that were gathered before the clock started: what a loader
that costs nothing would reach. "loop alone" is the baseline's loop over such tensors: what its loader costs it.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from omegaconf import DictConfig

from benchmarks.our_training import GatheredBefore, examples_per_second, experiment
from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, paired_ratio, take_turns
from benchmarks.tutorial_data import Size, TutorialData, tutorial_data
from benchmarks.tutorial_style import NarrationFiles, TutorialLoop, TutorialModel, narration_loader

TUTORIAL_PUBLISHED = 11_100
"""Examples per second that the published tutorial states for its own GPU training."""

BASELINE, ALONE = "baseline", "baseline's loop alone"


@dataclass
class Settings:
    """Settings of this benchmark; `steps` (`large_steps` of the large batch) are timed after `warm_steps`.

    The towers' hidden layers have `width` units, the tutorial's 1,536; so has its embedding. `threads` are torch's, 0
    for as many as it takes by itself.
    """

    data: str = DATA
    results: str = str(RESULTS)
    repeats: int = 5
    steps: int = 30
    warm_steps: int = 4
    batch_size: int = 128
    large_batch: int = 1024
    large_steps: int = 15
    workers: int = 2
    gpu_steps: int = 200
    gpu_warm_steps: int = 20
    gpu_batches: list[int] = field(default_factory=lambda: [128, 1024, 4096])
    size: Size = field(default_factory=Size)
    width: int = 1536
    threads: int = 0


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    data = tutorial_data(settings.data, settings.size)
    report = Report("training", settings, settings.results)
    with tempfile.TemporaryDirectory() as scratch:
        _on_cpu(settings, data, report, Path(scratch))
        if torch.cuda.is_available():
            _on_gpu(settings, data, report, Path(scratch))
        else:
            reason = f"torch {torch.__version__} finds no GPU on this machine"
            report.add("gpu", {"skipped": reason, "tutorial_published": TUTORIAL_PUBLISHED})
    return report.write()


def _on_cpu(settings: Settings, data: TutorialData, report: Report, scratch: Path) -> None:
    report.add("matmul_gflops", {name: _matmul_gflops(getattr(torch, name)) for name in ("float32", "bfloat16")})
    warm = settings.warm_steps
    sides: dict[str, Callable[[], float]] = {}
    baseline = _baseline(settings, data, "cpu", "float32", settings.steps + warm)
    sides[BASELINE] = partial(baseline.examples_per_second, warm)
    for batch_size, steps, precision in (
        (settings.batch_size, settings.steps, "32-true"),
        (settings.large_batch, settings.large_steps, "bf16-mixed"),
    ):
        module = data.module("float16", "disk", batch_size)
        gathered = GatheredBefore(module, steps + warm, torch.device("cpu"))
        if batch_size == settings.batch_size:
            alone = _loop(settings, gathered.batches, "cpu", "float32")
            sides[ALONE] = partial(alone.examples_per_second, warm)
        for recipe in ("ego4d_tutorial", "ego4d_clip"):
            cfg = _config(settings, recipe, precision, "cpu", scratch)
            name = f"{recipe}, {precision}, batch {batch_size}"
            sides[name] = partial(examples_per_second, cfg, module, scratch, steps, warm)
            if recipe == "ego4d_tutorial":
                before = partial(examples_per_second, cfg, gathered, scratch, steps, warm)
                sides[f"{name}, gathered before"] = before
    raw = take_turns(sides, settings.repeats)
    _keep(report, "cpu", raw)
    same = f"ego4d_tutorial, 32-true, batch {settings.batch_size}"
    large = f"ego4d_tutorial, bf16-mixed, batch {settings.large_batch}"
    limit = paired_ratio(raw, ALONE, BASELINE)["ratio"]
    report.target(
        f"float32, batch {settings.batch_size} ÷ baseline",
        paired_ratio(raw, same, BASELINE)["ratio"],
        at_least=3,
        note=f"the baseline's own loop without its loader reaches {limit:.2f}: arithmetic sets the limit",
    )
    report.target(
        f"bf16, batch {settings.large_batch} ÷ baseline", paired_ratio(raw, large, BASELINE)["ratio"], at_least=8
    )
    for name in (same, large):
        report.target(
            f"{name} ÷ gathered before", paired_ratio(raw, name, f"{name}, gathered before")["ratio"], at_least=0.95
        )


def _on_gpu(settings: Settings, data: TutorialData, report: Report, scratch: Path) -> None:
    steps, warm, device = settings.gpu_steps, settings.gpu_warm_steps, torch.device("cuda", 0)
    batches = min(steps + warm, settings.size.narrations // settings.batch_size)
    sides: dict[str, Callable[[], float]] = {}
    for precision in ("float32", "bfloat16"):
        baseline = _baseline(settings, data, "cuda", precision, batches)
        sides[f"{BASELINE}, {precision}"] = partial(baseline.examples_per_second, min(warm, batches // 2))
    for batch_size in settings.gpu_batches:
        copies = -(-(steps + warm + 1) * batch_size // settings.size.narrations)
        module = data.module("float16", "cuda", batch_size, copies)
        gathered = GatheredBefore(module, steps + warm, device)
        cfg = _config(settings, "ego4d_tutorial", "bf16-mixed", "gpu", scratch)
        name = f"ego4d_tutorial, bf16-mixed, batch {batch_size}"
        sides[name] = partial(examples_per_second, cfg, module, scratch, steps, warm)
        sides[f"{name}, gathered before"] = partial(examples_per_second, cfg, gathered, scratch, steps, warm)
        clip = _config(settings, "ego4d_clip", "bf16-mixed", "gpu", scratch)
        sides[f"ego4d_clip, bf16-mixed, batch {batch_size}"] = partial(
            examples_per_second, clip, module, scratch, steps, warm
        )
    raw = take_turns(sides, settings.repeats)
    _keep(report, "gpu", raw, f"{BASELINE}, float32", {"tutorial_published": TUTORIAL_PUBLISHED})
    for batch_size in settings.gpu_batches:
        name = f"ego4d_tutorial, bf16-mixed, batch {batch_size}"
        ratio = paired_ratio(raw, name, f"{name}, gathered before")["ratio"]
        report.target(f"GPU: {name} ÷ gathered before", ratio, at_least=0.95)


def _baseline(settings: Settings, data: TutorialData, device: str, precision: str, batches: int) -> TutorialLoop:
    files = NarrationFiles(data.per_video, data.narration_files)
    loader = narration_loader(files, settings.batch_size, batches, settings.workers)
    return _loop(settings, loader, device, precision)


def _loop(settings: Settings, loader: Any, device: str, precision: str) -> TutorialLoop:
    model = TutorialModel(settings.size.dim, settings.size.text_dim, settings.width)
    return TutorialLoop(model, loader, device, precision)


def _config(settings: Settings, recipe: str, precision: str, accelerator: str, scratch: Path) -> DictConfig:
    width = [f"model.{side}.hidden_dim={settings.width}" for side in ("video", "text")]
    if recipe == "ego4d_tutorial":
        width += [f"model.{side}.out_dim={settings.width}" for side in ("video", "text")]
    return experiment(
        [
            f"experiment={recipe}",
            f"paths.run='{scratch}'",
            f"precision={precision}",
            f"trainer.accelerator={accelerator}",
            *width,
        ]
    )


def _keep(
    report: Report,
    where: str,
    raw: dict[str, list[float]],
    baseline: str = BASELINE,
    more: dict[str, Any] | None = None,
) -> None:
    middle = medians(raw)
    ratios = {name: paired_ratio(raw, name, baseline) for name in raw if name != baseline}
    report.add(where, {"examples_per_second": raw, "median": middle, "ratio_to_baseline": ratios, **(more or {})})
    rows = [(name, middle[name], ratios[name]["ratio"] if name in ratios else 1.0) for name in raw]
    table(f"training, {where}", ("loop", "examples/s", "× baseline"), rows)


def _matmul_gflops(dtype: torch.dtype, side: int = 1536, batch: int = 1024) -> float:
    """Measure what one layer's product reaches in this number format, which is what a step consists of."""
    left, right = torch.randn(batch, side, dtype=dtype), torch.randn(side, side, dtype=dtype)
    seconds = []
    for _ in range(12):
        started = perf_counter()
        left @ right
        seconds.append(perf_counter() - started)
    return round(2 * batch * side * side / sorted(seconds)[len(seconds) // 2] / 1e9, 1)


if __name__ == "__main__":
    main()
