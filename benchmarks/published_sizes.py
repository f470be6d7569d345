"""Memory of loading published models in their released sizes: `python -m benchmarks.published_sizes models=[lavila-b]`.

A checkpoint of random weights is written in the official layout and loaded in a process of its own, which encodes one
clip. Peaks are those above the memory of a process that has imported clep, as multiples of the float32 weights.
EgoVideo is built on the meta device, without memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import memory_mb
from benchmarks.report import RESULTS, Report, read_settings, table
from clep.models.published import load_published
from clep.models.published.avion import Avion, JointViT
from clep.models.published.checkpoint import Checkpoint
from clep.models.published.lavila import LaViLa
from clep.models.published.layers import ClipText
from clep.models.published.model import VisionSizes
from clep.models.published.pe import PerceptionEncoder, PeVision
from clep.models.published.space_time import SpaceTimeTransformer

BASE, LARGE = VisionSizes(224, 16, 768, 12, 12, 3072), VisionSizes(224, 14, 1024, 24, 16, 4096)
LARGE_336 = VisionSizes(336, 14, 1024, 24, 16, 4096)
TINY = VisionSizes(32, 16, 768, 1, 12, 64)


@dataclass
class Settings:
    """Of this benchmark; `load` is set in the process that is measured."""

    models: list[str] = field(default_factory=lambda: ["lavila-b", "lavila-l", "avion-l", "pe-l", "egovideo"])
    results: str = str(RESULTS)
    load: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Released:
    """A released model: its kind, what builds it, and the published numbers of tensors and parameters in millions."""

    kind: str
    build: Callable[[], nn.Module]
    tensors: int
    parameters_m: float


def _lavila(vision: VisionSizes, text_width: int, text_heads: int, layers: int = 12, vocabulary: int = 49408) -> LaViLa:
    text = ClipText(vocabulary, 77, text_width, layers, text_heads, 4 * text_width, 256, "quick_gelu")
    return LaViLa(SpaceTimeTransformer(vision, 4, "quick_gelu", ln_pre=True, patch_bias=False), text, text_width, 256)


def _avion() -> Avion:
    return Avion(JointViT(LARGE, 4, temporal=True), ClipText(49408, 77, 768, 12, 12, 3072, 256, "gelu"), 256)


def _pe(vision: VisionSizes = LARGE_336, text_layers: int = 24, vocabulary: int = 49408) -> PerceptionEncoder:
    text = ClipText(vocabulary, 32, 1024, text_layers, 16, 4096, 1024, "gelu")
    return PerceptionEncoder(PeVision(vision, True, vision.hidden), (vision.width, 1024), text)


LAVILA_B = Released("lavila", lambda: _lavila(BASE, 512, 8), 375, 177.7)
TINY_LAVILA = Released("lavila", lambda: _lavila(TINY, 512, 8, layers=1, vocabulary=99), 45, 9.0)
PE_B = Released("pe", lambda: _pe(BASE), 0, 0.0)  # for speed alone; its counts are not checked
TINY_PE = Released("pe", lambda: _pe(TINY, text_layers=1, vocabulary=99), 0, 0.0)

RELEASED = {
    "lavila-b": LAVILA_B,
    "lavila-l": Released("lavila", lambda: _lavila(LARGE, 768, 12), 591, 527.5),
    "avion-l": Released("avion", _avion, 447, 426.7),
    "pe-l": Released("pe", _pe, 601, 671.1),
    "tiny": TINY_LAVILA,  # for the test
}


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    if settings.load:
        return _load(settings)
    report = Report("published_sizes", settings, settings.results)
    rows = []
    for name in settings.models:
        if name == "egovideo":
            report.add(name, _egovideo_on_meta())
            continue
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"{name}.pt"
            written = _write(RELEASED[name], path)
            command = [
                sys.executable,
                "-m",
                "benchmarks.published_sizes",
                f"load={path}",
                f"kind={RELEASED[name].kind}",
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = written | json.loads(done.stdout.splitlines()[-1])
        found |= {f"{what}_times_weights": found[f"{what}_mb"] / found["weights_mb"] for what in ("load", "clip")}
        report.add(name, found)
        report.target(f"{name}: peak of loading and one clip / weights", found["clip_times_weights"], at_most=1.3)
        rows.append(
            [name, found["parameters_m"], found["weights_mb"], found["load_mb"], found["clip_mb"], found["seconds"]]
        )
    table(
        "peak memory above a process that imported clep",
        ["model", "M parameters", "weights MB", "load", "load and clip", "s"],
        rows,
    )
    return report.write()


def _write(released: Released, path: Path) -> dict[str, Any]:
    """Write random weights in the official layout, and check that their number is the published one."""
    tensors, parameters_m = write_checkpoint(released, path)
    if tensors != released.tensors or abs(parameters_m - released.parameters_m) > 0.1:
        raise ValueError(f"{path.stem}: {tensors} tensors of {parameters_m:.1f} M parameters, not as published")
    return {"tensors": tensors, "parameters_m": round(parameters_m, 1), "weights_mb": 4 * parameters_m}


def write_checkpoint(released: Released, path: Path) -> tuple[int, float]:
    """Write random weights in the official layout; return the numbers of tensors, and of parameters in millions."""
    with torch.device("meta"):
        model = released.build()
    state = {_official_name(released.kind, name): _random(value) for name, value in model.state_dict().items()}
    state["logit_scale"] = torch.tensor(2.6593)
    content = {"epoch": 5, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    torch.save(content | {"args": argparse.Namespace(model="CLIP_OPENAI_TIMESFORMER_BASE")}, path)
    return len(state), sum(value.numel() for value in state.values()) / 1e6


def _random(value: Tensor) -> Tensor:
    return torch.empty(value.shape).normal_(std=0.02)


def _official_name(kind: str, name: str) -> str:
    if kind in ("lavila", "pe"):
        return "visual.proj" if name == "proj" else name.removeprefix("textual.")
    return "visual.image_projection" if name == "image_projection" else name


def _load(settings: Settings) -> dict[str, Any]:
    """Load a model and encode a clip in this process; print the peaks of its memory as JSON."""
    before, started = memory_mb("cpu"), perf_counter()
    with _peak() as load:
        model = load_published(settings.kind, settings.load)
    clip = model.clip
    with _peak() as run, torch.inference_mode():
        model.encode_video(torch.randn(1, clip.frames, 3, clip.crop_px, clip.crop_px))
    seconds = round(perf_counter() - started, 2)
    found = {"before_mb": before, "load_mb": load[0] - before, "clip_mb": run[0] - before, "seconds": seconds}
    print(json.dumps(found))
    return found


@contextmanager
def _peak() -> Iterator[list[float]]:
    """Yield a list that holds the peak memory of the block in MB once it has ended."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    found: list[float] = []
    yield found
    found.append(memory_mb("cpu", peak=True))


def _egovideo_on_meta() -> dict[str, Any]:
    """Build EgoVideo in its released size from tensors without memory."""
    from clep.models.published import egovideo

    width, text = 1408, 1024
    shapes: dict[str, tuple[int, ...]] = {
        "visual.cls_token": (1, 1, width),
        "visual.pos_embed": (1, 1025, width),
        "visual.patch_embed.proj.weight": (width, 3, 1, 14, 14),
        "visual.patch_embed.proj.bias": (width,),
        "image_projection": (768, 512),
        "text_projection": (text, 512),
        "textual.embeddings.word_embeddings.weight": (30522, text),
        "textual.embeddings.position_embeddings.weight": (512, text),
        "textual.embeddings.token_type_embeddings.weight": (2, text),
        **_pair("textual.embeddings.LayerNorm", (text,)),
    }
    for layer in range(40):
        block = f"visual.blocks.{layer}."
        for name in ("norm1", "norm2", "attn.q_norm", "attn.k_norm"):
            shapes[f"{block}{name}.weight"] = (width,)
        shapes |= {f"{block}attn.qkv.weight": (3 * width, width)} | _pair(f"{block}attn.proj", (width, width))
        shapes |= {f"{block}ls1.gamma": (width,), f"{block}ls2.gamma": (width,)}
        shapes |= _pair(f"{block}mlp.fc1", (6144, width)) | _pair(f"{block}mlp.fc2", (width, 6144))
    pool = "visual.clip_projector."
    for part in "qkv":
        shapes |= _pair(f"{pool}norm1_{part}", (width,)) | {f"{pool}cross_attn.{part}.weight": (width, width)}
        shapes[f"{pool}cross_attn.{part}_bias"] = (width,)
    shapes |= _pair(f"{pool}cross_attn.proj", (768, width))
    for layer in range(24):
        block = f"textual.encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= _pair(f"{block}{name}", (text, text))
        shapes |= _pair(f"{block}attention.output.LayerNorm", (text,)) | _pair(f"{block}output.LayerNorm", (text,))
        shapes |= _pair(f"{block}intermediate.dense", (4096, text)) | _pair(f"{block}output.dense", (text, 4096))
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    model = egovideo.build(Checkpoint(Path("egovideo.pth"), state), None, None)
    sides = {side: getattr(model, side).parameters() for side in ("visual", "textual")}
    return {f"{side}_m": round(sum(one.numel() for one in found) / 1e6, 1) for side, found in sides.items()}


def _pair(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


if __name__ == "__main__":
    main()
