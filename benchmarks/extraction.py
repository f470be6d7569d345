"""From video files to rows: `python -m benchmarks.extraction [videos=FOLDER] [key=value …]`.

Decoding beside bare PyAV and beside a seek for each window; the pipeline beside decoding alone and encoding alone;
memory by length of video; the job cut into shards, and killed and run again. On the real clips of a folder, joined to
one film; without a folder on drawn ones, which the result says.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import extraction_decoding, extraction_jobs
from benchmarks.films import RATE, clips_in, drawn, joined, repeat_film, write_film
from benchmarks.opening import STEADY_MALLOC
from benchmarks.report import RESULTS, Report, quiet, read_settings, table

WAITING = {"spin": {}, "brief": {"GOMP_SPINCOUNT": "20000"}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}
"""How threads of GNU's OpenMP, which PyTorch's Linux packages use, wait for each other: environment of the process."""

LONGEST_CLIP_S = 3.0


@dataclass
class Settings:
    """Settings of this benchmark.

    `videos` is a folder of real clips, or several with a colon between them. `ways` are what the pipeline is measured
    with: threads that decode (0: as many as FFmpeg likes), PyTorch threads, processes at once, and whether OpenMP
    threads wait for each other spinning ("spin"), asleep ("passive") or spinning for a moment ("brief", what importing
    clep chooses). The first one is compared with the target. `timesformer_film_s=0` leaves TimeSformer out.
    """

    results: str = str(RESULTS)
    videos: str = ""
    repeats: int = 3
    film_s: float = 60.0
    width: int = 640
    height: int = 360
    short_side_px: int = 224
    decode_threads: list[int] = field(default_factory=lambda: [0])
    encoder_film_s: float = 40.0
    timesformer_film_s: float = 4.8
    ways: list[str] = field(default_factory=lambda: ["0x2x1 brief", "0x2x1 spin", "1x1x2 spin"])
    timesformer_ways: list[str] = field(default_factory=lambda: ["0x2x1 brief", "1x1x2 spin"])
    memory_film_s: float = 60.0
    memory_times: list[int] = field(default_factory=lambda: [1, 4, 16])
    job_videos: int = 6
    kills: int = 3
    seed: int = 0
    gpu_batch: int = 32


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    clips = [clip for folder in filter(None, settings.videos.split(os.pathsep)) for clip in clips_in(folder)]
    if settings.videos and not clips:
        sys.exit(f"error: videos={settings.videos} holds no video")
    report = Report("extraction", replace(settings, videos="a folder" if clips else ""), settings.results)
    report.add("film", {"of": f"{len(clips)} real clips, joined" if clips else "drawn pictures", "codec": "h264"})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        film = _film(settings, clips, settings.film_s, folder / "film.mp4")
        _decoding(settings, report, film)
        _encoding(settings, report, _film(settings, clips, settings.encoder_film_s, folder / "shorter.mp4"), "")
        if settings.timesformer_film_s:
            weights = _timesformer(folder / "timesformer-b")
            short = _film(settings, clips, settings.timesformer_film_s, folder / "short.mp4")
            _encoding(settings, report, short, weights)
            _on_gpu(settings, report, film, weights)
        _memory(settings, report, folder)
        _jobs(settings, report, clips, folder)
    return report.write()


def _film(settings: Settings, clips: list[Path], seconds: float, path: Path) -> Path:
    frames, size = round(seconds * RATE), (settings.width, settings.height)
    return write_film(path, joined(clips, frames) if clips else drawn(frames, *size), *size)


def _timesformer(folder: Path) -> str:
    """Save a TimeSformer-B with random weights in the format of a download."""
    from transformers import TimesformerConfig, TimesformerModel

    torch.manual_seed(0)
    TimesformerModel(TimesformerConfig()).save_pretrained(folder)
    return str(folder)


def _decoding(settings: Settings, report: Report, film: Path) -> None:
    found = {}
    for threads in settings.decode_threads:
        one = extraction_decoding.compare(film, settings.short_side_px, threads, settings.repeats)
        found[f"{threads} threads" if threads else "default threads"] = one
        table(
            f"decoding {settings.film_s:g} s of {settings.width}x{settings.height}, decode_threads={threads}",
            ("what", "s", "× real time"),
            [(name, seconds, settings.film_s / seconds) for name, seconds in one["median"].items()],
        )
    report.add("decoding", found)
    for frames, ratios in found[next(iter(found))]["baseline_over_ours"].items():
        for other, ratio in ratios.items():
            least = 2.0 if other.startswith("seeks") else 0.8
            report.target(f"decoding, {frames}: {other.split(',')[0]} ÷ ours{_format(other)}", ratio["ratio"], least)


def _format(other: str) -> str:
    return f" ({other.split(', ')[1]})" if other.startswith("bare") else ""


def _encoding(settings: Settings, report: Report, film: Path, weights: str) -> None:
    """Measure the pipeline in all configurations, and compare its seconds with those of its two parts.

    On shared cores both parts together need the sum of their CPU seconds / cores: "sum", of each part alone with the
    same settings. "work" is that of one thread each, alone on the machine: no thread waits for another, but cores that
    are threads of one physical core are faster when alone, so that nothing reaches it there. Several processes of one
    thread each, whose threads never wait either, show how near one can come.
    """
    name = "timesformer-b, random weights" if weights else "efficientnet-lite0"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ways = settings.timesformer_ways if weights else settings.ways
    of_encoder = [f"weights={weights}", f"longest_clip_s={LONGEST_CLIP_S * cores}", "clip_batch=2"] if weights else []
    common = [f"film={film}", f"repeats={settings.repeats}", "device=cpu", *of_encoder]
    least = _children([*common, "decode_threads=1", "torch_threads=1"], 1, {})[0]
    if "skipped" in least:
        report.add(f"encoding, {name}", least)
        return
    work_s = sum(median(least[part]["cpu_seconds"]) for part in ("decode", "encode"))
    found: dict[str, Any] = {"video_s": least["video_s"], "units": least["units"], "1x1x1 spin": least}
    ratios = {"1x1x1 spin": _against(least, work_s, cores, 1)}
    for way in ways:
        threads, policy = way.split()
        decode, torch_threads, processes = (int(number) for number in threads.split("x"))
        words = [*common, f"decode_threads={decode}", f"torch_threads={torch_threads}"]
        every = _children(words, processes, WAITING[policy])
        found[way] = every[0] if processes == 1 else every
        ratios[way] = _against(every[0], work_s, cores, processes)
    report.add(f"encoding, {name}", found | {"work_cpu_s": work_s, "against_bounds": ratios})
    columns = ("sum_over_pipeline", "work_over_pipeline", "slower_over_pipeline", "cores_busy", "others_busy")
    table(
        f"{name}: {least['video_s']:.0f} s of video, {cores} cores",
        ("decode x PyTorch x processes", "s", "sum ÷ it", "work ÷ it", "slower ÷ it", "busy", "by others"),
        [(way, one["pipeline_s"], *(one.get(column) for column in columns)) for way, one in ratios.items()],
    )
    first = ratios[ways[0]]
    report.target(f"{name}: CPU seconds of both ÷ cores ÷ pipeline", first["sum_over_pipeline"], 0.9, note=ways[0])


def _against(found: dict[str, Any], work_s: float, cores: int, processes: int) -> dict[str, float]:
    """Compare a pipeline, of which `processes` run at once, with its bounds; 1 is as fast as can be."""
    pipeline_s, cpu_s = (median(found["pipeline"][key]) for key in ("seconds", "cpu_seconds"))
    busy = cpu_s * processes / (pipeline_s * cores)
    ratios = {
        "pipeline_s": pipeline_s / processes,
        "work_over_pipeline": work_s * processes / cores / pipeline_s,
        "cores_busy": busy,
        "others_busy": median(found["pipeline"]["machine_cpu_seconds"]) / (pipeline_s * cores) - busy,
    }
    if processes == 1:
        both = {part: {key: median(values) for key, values in found[part].items()} for part in ("decode", "encode")}
        ratios["slower_over_pipeline"] = max(one["seconds"] for one in both.values()) / pipeline_s
        ratios["sum_over_pipeline"] = sum(one["cpu_seconds"] for one in both.values()) / cores / pipeline_s
    return ratios


def _children(words: list[str], processes: int, environment: dict[str, str]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.extraction_encoding", *words]
    command += ["together=true"] if processes > 1 else []
    root, inherited = Path(__file__).parent.parent, {**os.environ, **environment}
    children = [
        subprocess.Popen(command, cwd=root, env=inherited, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    if processes > 1:
        for child in children:  # until each is ready
            assert child.stdout is not None
            child.stdout.readline()
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
    found = [child.communicate()[0] for child in children]
    for child in children:
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command)
    return [json.loads(text.splitlines()[-1]) for text in found]


def _on_gpu(settings: Settings, report: Report, film: Path, weights: str) -> None:
    if not torch.cuda.is_available():
        report.add("gpu", {"skipped": "this machine has no GPU"})
        return
    words = [f"film={film}", f"weights={weights}", f"repeats={settings.repeats}", "device=cuda", "precision=bf16"]
    found = _children([*words, f"clip_batch={settings.gpu_batch}"], 1, {})[0]
    hours = {part: found["video_s"] / median(found[part]["seconds"]) for part in ("decode", "encode", "pipeline")}
    report.add("gpu", found | {"hours_of_video_per_hour": hours})
    ratio = hours["pipeline"] / min(hours["decode"], hours["encode"])
    report.target("GPU, TimeSformer-B in bf16: pipeline ÷ slower part alone", ratio, 0.9)


def _memory(settings: Settings, report: Report, folder: Path) -> None:
    if not Path("/proc/self/status").exists():
        report.add("memory_mb", {"skipped": "this system has no /proc/self/status"})
        return
    frames, size = round(settings.memory_film_s * RATE), (160, 96)
    tiny = write_film(folder / "tiny.mp4", drawn(frames, *size), *size)
    found: dict[str, dict[str, Any]] = {"ours": {}, "bare decoding": {}}
    for times in settings.memory_times:
        film = repeat_film(tiny, times, folder / f"tiny-{times}.mp4")
        for side, kept in found.items():
            command = [sys.executable, "-m", "benchmarks.extraction_memory", f"film={film}"]
            command += ["bare=true"] if side != "ours" else []
            environment = {**os.environ, **STEADY_MALLOC}
            root = Path(__file__).parent.parent
            child = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, check=True)
            kept[f"{times * settings.memory_film_s:g} s"] = json.loads(child.stdout.splitlines()[-1])
    report.add("memory_mb", found)
    names = list(found["ours"])
    table(
        "own memory at most, MB",
        ("length", "ours", "bare decoding"),
        [(name, *(kept[name]["peak_mb"] for kept in found.values())) for name in names],
    )
    if len(names) > 1:
        hours = [times * settings.memory_film_s / 3600 for times in settings.memory_times]
        slopes = {
            side: float(np.polyfit(hours, [kept[name]["peak_mb"] for name in names], 1)[0])
            for side, kept in found.items()
        }
        report.add("memory_mb_per_hour_of_video", slopes)
        note = f"the file's index alone, which PyAV holds: {slopes['bare decoding']:.1f}"
        report.target("own memory, MB for each hour of video", slopes["ours"], at_most=20, note=note)


def _jobs(settings: Settings, report: Report, clips: list[Path], folder: Path) -> None:
    chosen = clips[: settings.job_videos]
    if not chosen:
        size = (160, 96)
        chosen = [
            write_film(folder / f"clip-{number}.mp4", drawn(RATE * (2 + number), *size), *size)
            for number in range(settings.job_videos)
        ]
    listing = folder / "videos.txt"
    listing.write_text("".join(f"clip-{number}\t{path.absolute()}\n" for number, path in enumerate(chosen)))
    shards = extraction_jobs.compare_shards(listing, folder / "shards")
    report.add("shards", shards)
    for way, same in shards["same_bytes_as_1_shard"].items():
        if way != "1 shard":
            report.target(f"{way}: the same bytes as 1 shard", float(same), 1.0)
    killed = extraction_jobs.kill_and_continue(listing, folder / "killed", settings.kills, settings.seed)
    report.add("killed", killed)
    report.target(f"killed {settings.kills} times and continued: the same bytes", float(killed["same_bytes"]), 1.0)


if __name__ == "__main__":
    main()
