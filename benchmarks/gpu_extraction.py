"""Clips per second of extraction on a GPU, a part of `benchmarks.gpu`: `python -m benchmarks.gpu_extraction`.

TimeSformer-B, LaViLa-B and PE-Core-B with random weights in bf16, plain and compiled: the forward pass alone at full
batches, and the pipeline from films to rows, whose decoders run on all cores.
"""

import gc
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.device import flops_of, peaks, seconds_each, wait_for
from benchmarks.films import RATE, drawn, repeat_film, write_film
from benchmarks.published_sizes import LAVILA_B, PE_B, TINY_LAVILA, TINY_PE, write_checkpoint
from benchmarks.report import RESULTS, Report, quiet, read_settings, table
from clep.models.published import PublishedEncoder
from clep.video import DenseWindows, VideoEncoder, encode_video
from clep.video.encode import encode_together
from clep.video.encoders import TimeSformer

ROWS_PER_SECOND = 30 / 16


@dataclass
class Settings:
    """Settings of this part; `films` of `film_s` seconds each go through the pipeline, a thread decodes each."""

    results: str = str(RESULTS)
    device: str = "cuda"
    models: list[str] = field(default_factory=lambda: ["lavila-b", "timesformer-b", "pe-b"])
    toy: bool = False
    compiler: str = "inductor"
    clip_batch: int = 64
    films: int = 0
    film_s: float = 60.0
    drawn_s: float = 10.0
    width: int = 340
    height: int = 256
    seconds: float = 2.0


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it. What was measured is kept after each model."""
    settings = read_settings(Settings, words)
    quiet()
    report = Report("gpu_extraction", settings, settings.results)
    report.add("peaks", peaks(settings.device))
    found: dict[str, dict[str, Any]] = {}
    report.add("models", found)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        films = _films(settings, folder)
        for compiled in (False, True):  # plain ones first: compiling may take the time that is left
            for name in settings.models:
                encoder = make_encoder(name, settings.toy, folder).to(settings.device).eval()
                if compiled:
                    encoder.forward = torch.compile(encoder.forward, backend=settings.compiler)  # type: ignore[method-assign]
                one = found.setdefault(name, {"frames": encoder.clip.frames, "frame_wise": encoder.frame_wise})
                one["compiled" if compiled else "plain"] = _measure(settings, encoder, films, compiled)
                report.save()
                del encoder
                gc.collect()
    for name, one in found.items():
        ratio = one["plain"]["pipeline_over_forward"]
        report.target(f"{name}, bf16: clips/s of the pipeline ÷ of the forward pass", ratio, at_least=0.8)
    columns = ("model", "", "forward, clips/s", "pipeline, clips/s", "hours of video an hour")
    rows = [
        (name, way, *(one[way][key] for key in ("forward_clips_per_s", "pipeline_clips_per_s", "hours_per_hour")))
        for name, one in found.items()
        for way in ("plain", "compiled")
    ]
    table("extraction, bf16", columns, rows)
    return report.write()


def make_encoder(name: str, toy: bool, folder: Path) -> VideoEncoder:
    """Build an encoder with random weights; `toy` keeps its parts and shrinks their sizes."""
    torch.manual_seed(0)
    if name == "timesformer-b":
        from transformers import TimesformerConfig, TimesformerModel

        tiny = {"image_size": 32, "num_frames": 2, "num_hidden_layers": 1, "intermediate_size": 64} if toy else {}
        weights = folder / name
        TimesformerModel(TimesformerConfig(**tiny)).save_pretrained(weights)
        return TimeSformer(str(weights), depth=1 if toy else 12)
    kinds = {"lavila-b": (LAVILA_B, TINY_LAVILA), "pe-b": (PE_B, TINY_PE)}
    if name not in kinds:
        raise ValueError(f"there is no model {name}: choose among timesformer-b, {', '.join(kinds)}")
    released = kinds[name][toy]
    path = folder / f"{name}.pt"
    if not path.exists():
        write_checkpoint(released, path)
    return PublishedEncoder(released.kind, str(path))


def _films(settings: Settings, folder: Path) -> list[Path]:
    """Write a film that repeats some drawn seconds, once for each decoder."""
    count = settings.films or len(os.sched_getaffinity(0))
    size = settings.width, settings.height
    once = write_film(folder / "once.mp4", drawn(round(settings.drawn_s * RATE), *size), *size)
    first = repeat_film(once, max(1, round(settings.film_s / settings.drawn_s)), folder / "film-000.mp4")
    films = [first]
    for index in range(1, count):
        films.append(folder / f"film-{index:03d}.mp4")
        os.link(first, films[-1])
    return films


def _measure(settings: Settings, encoder: VideoEncoder, films: list[Path], compiled: bool) -> dict[str, float]:
    """Measure the pipeline, and the forward pass alone on its last batch; that of a frame-wise encoder holds frames."""
    batch = settings.clip_batch * (encoder.clip.frames if encoder.frame_wise else 1)
    inputs: list[Tensor] = []
    calls: list[int] = []

    def note(module: nn.Module, arguments: tuple[Tensor]) -> None:
        calls.append(1)
        inputs[:] = [arguments[0]]

    noted = encoder.register_forward_pre_hook(note)
    warm_s, _ = _pipeline(settings, encoder, films[:1], batch)  # compiles for the shape and layout of these batches
    calls.clear()
    seconds, rows = _pipeline(settings, encoder, films, batch)
    noted.remove()
    pixels = inputs[0]

    def forward() -> None:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=settings.device != "cpu"):
            encoder(pixels)

    forward_s = seconds_each(forward, settings.device, settings.seconds)
    alone_s = len(calls) * forward_s
    return {
        "warm_up_s": warm_s,
        "forward_s": forward_s,
        **({} if compiled else {"forward_flop_per_s": flops_of(forward) / forward_s}),
        "rows": rows,
        "forward_passes": len(calls),
        "pipeline_s": seconds,
        "forward_clips_per_s": rows / alone_s,
        "pipeline_clips_per_s": rows / seconds,
        "forward_hours_per_hour": rows / alone_s / ROWS_PER_SECOND,
        "hours_per_hour": rows / seconds / ROWS_PER_SECOND,
        "pipeline_over_forward": alone_s / seconds,
    }


def _pipeline(settings: Settings, encoder: VideoEncoder, films: list[Path], batch: int) -> tuple[float, int]:
    """Encode films as extraction does; return the seconds and the number of rows."""
    device, precision = settings.device, "float32" if settings.device == "cpu" else "bf16"
    videos = [
        encode_video(path, encoder, DenseWindows(), batch_size=batch, device=device, precision=precision, threads=1)
        for path in films
    ]
    started, rows = perf_counter(), 0
    for _, blocks in encode_together(videos, decoders=len(films)):
        rows += sum(len(block) for block in blocks)
    wait_for(device)
    return perf_counter() - started, rows


if __name__ == "__main__":
    main()
