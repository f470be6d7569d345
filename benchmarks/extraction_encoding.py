"""Child process of `benchmarks.extraction`: decoding only, encoding only, and the pipeline, alternately.

A process of its own, because how its OpenMP threads wait is settled when it starts. Prints one line of JSON. With
`together=true` it says "ready", waits for a line on standard input and measures the pipeline only: several of them at
once are what several worker processes do.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import machine_cpu_seconds
from benchmarks.report import read_settings
from clep.compute.threads import one_core_each
from clep.video import DenseWindows, VideoEncoder, VideoReader, encode_video
from clep.video.encoders import EfficientNetLite0, TimeSformer
from clep.video.transforms import centre_crop, normalize


@dataclass
class Settings:
    """Of the child; `weights` is the folder of a TimeSformer, "" stands for EfficientNet-lite0."""

    film: str = ""
    weights: str = ""
    decode_threads: int = 0
    torch_threads: int = 0
    clip_batch: int = 8
    repeats: int = 3
    device: str = "cpu"
    precision: str = "float32"
    longest_clip_s: float = 0.0
    together: bool = False


def main(words: Sequence[str] | None = None) -> None:
    """Measure, then print the figures as one line of JSON."""
    settings = read_settings(Settings, words)
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    torch.manual_seed(0)
    encoder: VideoEncoder = TimeSformer(settings.weights) if settings.weights else EfficientNetLite0()
    encoder.to(settings.device)
    units, seconds = _decoded(settings, encoder)
    batches = _batches(units, settings)
    started = perf_counter()
    _encode(batches[-1:], encoder, settings)
    warm_s = perf_counter() - started
    if settings.longest_clip_s and warm_s / len(batches[-1]) > settings.longest_clip_s:
        print(json.dumps({"skipped": f"a clip takes {warm_s / len(batches[-1]):.1f} s here"}))
        return
    sides: dict[str, Callable[[], object]] = {
        "decode": lambda: _decoded(settings, encoder, keep=False),
        "encode": lambda: _encode(batches, encoder, settings),
        "pipeline": lambda: _pipeline(settings, encoder),
    }
    if settings.together:
        sides = {"pipeline": sides["pipeline"]}
        print("ready", flush=True)
        sys.stdin.readline()
    clocks = {"seconds": perf_counter, "cpu_seconds": process_time, "machine_cpu_seconds": machine_cpu_seconds}
    found: dict[str, Any] = {name: {kind: [] for kind in clocks} for name in sides}
    for _ in range(settings.repeats):
        for name, work in sides.items():
            before = {kind: clock() for kind, clock in clocks.items()}
            work()
            for kind, clock in clocks.items():
                found[name][kind].append(clock() - before[kind])
    found |= {"units": len(units), "video_s": seconds, "torch_threads": torch.get_num_threads()}
    print(json.dumps(found))


def _decoded(settings: Settings, encoder: VideoEncoder, keep: bool = True) -> tuple[list[Tensor], float]:
    """Decode and sample the film; return what goes through the encoder, cropped, and the seconds of the film."""
    spec = encoder.clip
    reader = VideoReader(settings.film, spec.short_side_px, threads=settings.decode_threads)
    units: dict[object, Tensor] = {}
    for clip in reader.clips(DenseWindows(), spec.frames):
        if keep and encoder.frame_wise:
            frames = zip(clip.frame_indices, clip.frames, strict=True)
            units |= {number: centre_crop(frame, spec.crop_px)[None] for number, frame in frames}
        elif keep:
            units[clip.start_s] = centre_crop(torch.stack(clip.frames), spec.crop_px)
    return list(units.values()), reader.duration_s


def _batches(units: list[Tensor], settings: Settings) -> list[Tensor]:
    """Return batches of one shape; the last one repeats its last unit, as in the pipeline."""
    size = settings.clip_batch
    padded = units + units[-1:] * (-len(units) % size)
    return [torch.stack(padded[start : start + size]).to(settings.device) for start in range(0, len(padded), size)]


def _encode(batches: list[Tensor], encoder: VideoEncoder, settings: Settings) -> None:
    bf16 = settings.precision == "bf16"

    def encode(pixels: Tensor) -> None:
        with torch.inference_mode(), torch.autocast(settings.device, torch.bfloat16, enabled=bf16):
            encoder(normalize(pixels, encoder.clip.mean, encoder.clip.std))

    if settings.device.startswith("cuda"):
        for pixels in batches:
            encode(pixels)
        torch.cuda.synchronize()
        return
    with one_core_each() as cores:  # as the pipeline does
        for wait in [cores.start(partial(encode, pixels)) for pixels in batches]:
            wait()


def _pipeline(settings: Settings, encoder: VideoEncoder) -> int:
    encoded = encode_video(
        settings.film,
        encoder,
        DenseWindows(),
        batch_size=settings.clip_batch,
        device=settings.device,
        precision=settings.precision,
        threads=settings.decode_threads,
    )
    return sum(len(block) for block in encoded)


if __name__ == "__main__":
    main()
