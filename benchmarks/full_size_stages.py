"""The stages of the drill at full size, each run as a process by `benchmarks.full_size`."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.full_size import POLL_S, Settings, anonymous_mb, children, folder_of, real_sample
from benchmarks.report import quiet, read_settings
from clep.errors import InputError
from clep.files import read_json, write_json

TEXT_ENCODER, DISK_BYTES = "hash-of-the-text", 45e9
_SEARCHED = re.compile(r"hard negatives for epoch \d+: the \d+ nearest of each of (\d+) videos, ([\d.]+) s")


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
                for pid in [child.pid, *children(child.pid)]:
                    peak[pid] = max(peak.get(pid, 0.0), anonymous_mb(pid, alone=True))
                sleep(POLL_S)
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
        Sample(**real_sample(settings)), folder / "clep" / "narrations_clean" / "narrations.arrow", folder / "real"
    )


STAGE_OF: dict[str, Callable[[Settings, Path], dict[str, Any]]] = {
    **{"make": _make, "features": _features, "narrations": _narrations, "texts": _texts, "opening": _opening},
    **{"steps": _steps, "epoch": _epoch, "resume": _resume, "hard_negatives": _hard_negatives, "ranks": _ranks},
    "real": _real,
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the stage that the settings name, and write its figures beside its data; `work_s` leaves out the imports."""
    settings = read_settings(Settings, words)
    quiet()
    folder = folder_of(settings, settings.fraction)
    started = perf_counter()
    found = STAGE_OF[settings.stage](settings, folder)
    found.setdefault("work_s", perf_counter() - started)
    write_json(folder / f".{settings.stage}.json", found)


if __name__ == "__main__":
    main()
