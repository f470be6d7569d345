"""Compared with what people would pick instead: `python -m benchmarks.peers [key=value …]`.

Decoding beside decord and torchcodec, loading beside WebDataset, LitData and per-sample HDF5 reads, the loss beside
open_clip, hard negatives beside faiss. Each peer is installed without its dependencies into a folder of its own below
`environment`, which joins neither this environment nor its constraints; one that cannot be installed or imported is
left out with the reason. All sides of a comparison take turns in one process.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, paired_ratio, take_turns

ROOT = Path(__file__).parent.parent
PEERS = {
    "decord": ["decord==0.6.0"],
    "torchcodec": ["torchcodec==0.13.0"],  # the release for torch 2.13; needs ffmpeg's libraries
    "webdataset": ["webdataset==1.0.2", "braceexpand==0.1.7"],
    "litdata": ["litdata==0.2.76", "tifffile==2026.3.3", "obstore==0.12.1"],
    "open_clip": ["open_clip_torch==3.3.0", "timm==1.0.31"],  # imports torchvision
    "faiss": [],  # of the extra `search`
}
GROUPS = ("decoding", "loading", "loss", "hard_negatives")
OURS = "clep"

Side = tuple[Callable[[], float], str]
"""What measures one side, and its unit; higher is better."""


@dataclass
class Settings:
    """Settings: which comparisons, how often, and their sizes; `group` is set in the processes that measure.

    `threads` are OpenMP's on all sides, 0 for their defaults: more than one spin against others on a busy machine.
    """

    data: str = DATA
    results: str = str(RESULTS)
    environment: str = str(ROOT / ".cache" / "peers")
    install: bool = True
    groups: list[str] = field(default_factory=lambda: list(GROUPS))
    group: str = ""
    repeats: int = 3
    threads: int = 0
    film_s: float = 10.0
    width: int = 640
    height: int = 360
    short_side_px: int = 256
    fraction: float = 0.005
    dim: int = 256
    text_dim: int = 768
    batch_size: int = 1024
    samples: int = 8_192
    workers: int = 8
    loss_batch: int = 1024
    loss_dim: int = 512
    videos: int = 9_645
    neighbours: int = 64


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    if settings.group:
        return _measure_group(settings)
    unknown = set(settings.groups) - set(GROUPS)
    if unknown:
        sys.exit(f"error: there is no comparison {', '.join(sorted(unknown))}; choose among {', '.join(GROUPS)}")
    report = Report("peers", replace(settings, environment=""), settings.results)
    folder = Path(settings.environment)
    report.add("peers", {name: " ".join(packages) for name, packages in PEERS.items()})
    report.add("not_installed", install(folder) if settings.install else {})
    rows: list[tuple[object, ...]] = []
    given = list(sys.argv[1:] if words is None else words)
    for group in settings.groups:
        found = _run(group, given, folder, settings.threads)
        report.add(group, found)
        report.save()
        for name, value in found.get("median", {}).items():
            rows.append((group, name, value, found["unit"], found["clep_over"].get(name, {}).get("ratio")))
        rows += [
            (group, name, f"left out: {why.splitlines()[0][:90]}", "", None) for name, why in found["left_out"].items()
        ]
    table("beside others", ("", "side", "median", "", "clep ÷ it"), rows)
    return report.write()


def install(folder: Path) -> dict[str, str]:
    """Install the peers that are missing, each into a folder of its own; return why some could not be."""
    constraints = ROOT / "constraints.txt"
    failed = {}
    for name, packages in PEERS.items():
        target = folder / name
        if not packages or (target / "installed.txt").exists():
            continue
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(target)]
        if name != "open_clip":
            command += ["--constraint", str(constraints)]
        done = subprocess.run([*command, *packages], capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            failed[name] = next((line for line in lines if line.startswith("ERROR")), "pip failed")
            continue
        (target / "installed.txt").write_text("\n".join(packages))
    return failed


def optional(name: str, left_out: dict[str, str]) -> Any:
    """Import a peer; None, and the reason in `left_out`, where that fails."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a library that does not fit raises whatever it likes
        left_out[name] = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"
        return None


def _run(group: str, given: Sequence[str], folder: Path, threads: int) -> dict[str, Any]:
    paths = [str(ROOT), *(str(folder / name) for name in PEERS), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    command = [sys.executable, "-m", "benchmarks.peers", *given, f"group={group}"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return {"left_out": {"all sides": f"the process ended with status {done.returncode}"}}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure_group(settings: Settings) -> dict[str, Any]:
    """Measure all sides of a comparison in turn; print the figures as one line of JSON."""
    from benchmarks import peers_decoding, peers_loading, peers_objective

    sides_of = {
        "decoding": peers_decoding.sides,
        "loading": peers_loading.sides,
        "loss": peers_objective.loss_sides,
        "hard_negatives": peers_objective.neighbour_sides,
    }
    left_out: dict[str, str] = {}
    sides, unit, notes = sides_of[settings.group](settings, left_out)
    working: dict[str, Callable[[], float]] = {}
    for name, side in sides.items():
        try:
            side()  # once to warm up, and to see that it works
            working[name] = side
        except Exception as error:
            if name == OURS:
                raise
            left_out[name] = f"{type(error).__name__}: {str(error).strip() or 'no reason given'}"
    raw = take_turns(working, settings.repeats, warm=0)
    ratios = {name: paired_ratio(raw, OURS, name) for name in raw if name != OURS}
    found = {"unit": unit, "raw": raw, "median": medians(raw), "clep_over": ratios, "left_out": left_out, **notes}
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
