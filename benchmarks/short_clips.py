"""Thousands of clips of one row each: `python -m benchmarks.short_clips`.

CPU seconds of the job `videos`, start-up included, beside those of decoding all clips and of encoding all frames alone,
each in a process that does nothing else. The encoder is EfficientNet-lite0, as it needs no weights.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from benchmarks.films import drawn, write_film
from benchmarks.report import RESULTS, Report, read_settings
from clep.bank import FeatureBank
from clep.compute.threads import one_core_each
from clep.video import DenseWindows, VideoReader
from clep.video.batches import BatchEncoder
from clep.video.encoders import EfficientNetLite0

FRAMES = 32
"""Frames of a clip: one dense window."""


@dataclass
class Settings:
    """Of this benchmark."""

    results: str = str(RESULTS)
    clips: int = 2000
    distinct: int = 50
    width: int = 340
    height: int = 256
    clip_batch: int = 8


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    report = Report("short_clips", settings, settings.results)
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = _films(folder / "all", settings)
        (folder / "one").mkdir()
        os.link(films[0], folder / "one" / films[0].name)
        decoding, units = _decoding(films)
        encoding = _encoding(units * len(films), settings)
        one = _job(folder / "one", settings)
        job = _job(folder / "all", settings)
        bank = FeatureBank.open(folder / "all.h5")
        assert (len(bank), bank.n_rows) == (len(films), len(films))
    alone = decoding + encoding
    report.add("cpu_seconds", {"decoding": decoding, "encoding": encoding, "job": job["cpu"], "start_up": one["cpu"]})
    report.add("seconds", {"job": job["wall"], "start_up": one["wall"]})
    report.add("frames_encoded", units * len(films))
    report.add("clips_per_second", len(films) / job["wall"])
    report.target("CPU seconds of the job / decoding + encoding alone", job["cpu"] / alone, at_most=1.15)
    busy = (job["cpu"] - one["cpu"]) / max(job["wall"] - one["wall"], 1e-9) / (os.cpu_count() or 1)
    report.target("share of the cores that is busy after the start-up", busy, at_least=0.9)
    return report.write()


def _films(folder: Path, settings: Settings) -> list[Path]:
    """Write the distinct films and link the others to them."""
    folder.mkdir()
    made = []
    pictures = drawn(FRAMES * settings.distinct, settings.width, settings.height)
    for number in range(min(settings.distinct, settings.clips)):
        shown = islice(pictures, FRAMES)
        made.append(write_film(folder / f"{number:05d}.mp4", shown, settings.width, settings.height))
    for number in range(len(made), settings.clips):
        path = folder / f"{number:05d}.mp4"
        os.link(made[number % len(made)], path)
        made.append(path)
    return made


def _decoding(films: Sequence[Path]) -> tuple[float, int]:
    """Return the CPU seconds of decoding and preparing all clips, and the distinct frames of a clip."""
    encoder = EfficientNetLite0()
    batches = BatchEncoder(encoder)
    started, count = process_time(), 0
    for film in films:
        reader = VideoReader(film, batches.decoded_short_side_px, threads=1, transform=batches.prepare)
        for clip in reader.clips(DenseWindows(), encoder.clip.frames):
            count += len(set(clip.frame_indices))
    return process_time() - started, count // len(films)


def _encoding(frames: int, settings: Settings) -> float:
    """Return the CPU seconds of encoding so many frames in full batches, a core each."""
    encoder = EfficientNetLite0().eval()
    batches = BatchEncoder(encoder)
    side = encoder.clip.crop_px
    batch = [(torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8),) for _ in range(settings.clip_batch)]
    with one_core_each() as cores:
        list(cores.map(lambda _: batches.start(batch)(), range(2 * cores.count)))
        started = process_time()
        list(cores.map(lambda _: batches.start(batch)(), range(-(-frames // settings.clip_batch))))
        return process_time() - started


def _job(films: Path, settings: Settings) -> dict[str, float]:
    """Run the job's command on a folder of films; return its CPU and wall-clock seconds."""
    command = [sys.executable, "-m", "clep.preprocess", "videos", f"videos={films}", f"output={films}.h5"]
    command += ["encoder=efficientnet_lite0", "device=cpu", f"clip_batch={settings.clip_batch}"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": perf_counter() - started}


if __name__ == "__main__":
    main()
