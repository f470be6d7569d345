"""Simulate power cuts: `python -m tests.drills.power_cuts cuts=20`, as root on Linux.

A job or training of `tests.drills.kills` writes onto a file system in a loop image. The image is copied without a sync,
at a random moment with the job stopped, or right after its success: what the job has not flushed is not in the copy.
The kernel may write to the image meanwhile, so it is copied again until the copy equals it: a copy of two moments is
the disk of no power cut. The copy is mounted, and the command runs there again. Its result must equal that of an
undisturbed run, no temporary file may be left, and what was complete before the cut must not be lost after it.
"""

import contextlib
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, read_settings
from tests.drills.kills import (
    CODE,
    DRILLS,
    Drill,
    attempt,
    difference,
    leftovers,
    make_inputs,
    replace_encoders,
    run_training,
)
from tests.drills.records import add_record, code_digest

IMAGE_BYTES = 192 << 20
_TRIES = 20


@dataclass
class Settings:
    """Of this drill; `only` is a part of the names of the commands."""

    cuts: int = 20
    seed: int = 0
    only: str = ""
    out: str = str(RESULTS / "power_cuts.json")


@contextlib.contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """Mount an image for the block."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def new_image(path: Path) -> Path:
    """Make an empty ext4 file system in a file."""
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(path)], check=True)
    return path


def cut(drill: Drill, inputs: Path, work: Path, seconds: float, share: float | None) -> tuple[bool, Path]:
    """Run a command on a new file system, and copy its image without a sync.

    Args:
        drill: the command.
        inputs: what it reads.
        work: a folder for images.
        seconds: that the command takes.
        share: when to copy, as a share of them, with the command stopped; None for right after its success.

    Returns:
        Whether the command had succeeded before the copy, and the copy.
    """
    image, copy = new_image(work / "image"), work / "copy"
    copy.unlink(missing_ok=True)  # of the cut before
    with mounted(image, work / "before") as disk:
        timer = None
        if share is not None:
            timer = threading.Timer(share * seconds, _copy_with_children_stopped, (image, copy))
            timer.start()
        done = attempt(drill, inputs, disk / "out", work)
        if timer is not None:
            timer.cancel()
            timer.join()
        succeeded = not copy.exists()
        if done.status != 0:
            raise RuntimeError(f"{drill.name} failed: {done.output[-800:]}")
        if succeeded:
            _copy(image, copy)
    image.unlink()
    return succeeded, copy


def _copy_with_children_stopped(image: Path, copy: Path) -> None:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    groups = [int(pid) for pid in children]
    for pid in groups:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGSTOP)
    time.sleep(0.01)
    _copy(image, copy)
    for pid in groups:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGCONT)


def _copy(image: Path, copy: Path) -> None:
    """Copy an image as it is at one moment: what is equal before and after the comparison began was equal then."""
    for _ in range(_TRIES):
        shutil.copyfile(image, copy)
        if filecmp.cmp(image, copy, shallow=False):
            return
    raise RuntimeError(f"{image} changed during each of {_TRIES} copies")


def main(arguments: list[str]) -> int:
    """Cut, add a record, and return 1 if anything was lost, broken or left."""
    settings = read_settings(Settings, arguments)
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        sys.stderr.write("power cuts are simulated with loop devices, which need root on Linux\n")
        return 2
    torch.set_num_threads(1)
    replace_encoders()
    draw, started = random.Random(settings.seed), time.perf_counter()
    drills = [drill for drill in DRILLS if settings.only in drill.name]
    cuts: Counter[str] = Counter()
    faults: dict[str, list[str]] = {"lost": [], "broken": [], "left": []}
    with tempfile.TemporaryDirectory(prefix="clep-power-cuts-") as folder:
        work = Path(folder)
        inputs = work / "inputs"
        inputs.mkdir()
        make_inputs(inputs)
        references: dict[str, tuple[float, Any]] = {}
        for drill in drills:
            if drill.name == "training":
                run_training(inputs / "training", "whole")
            done = attempt(drill, inputs, work / drill.name, work)
            references[drill.name] = done.seconds, drill.content(work / drill.name)
        for number in range(settings.cuts):
            drill = drills[number % len(drills)]
            seconds, expected = references[drill.name]
            share = None if draw.random() < 0.5 else draw.random()
            succeeded, copy = cut(drill, inputs, work, seconds, share)
            cuts["after its success" if succeeded else "while it ran"] += 1
            label = f"{drill.name} {number}"
            with mounted(copy, work / "after") as disk:
                out = disk / "out"
                kept = _content(drill, out)
                if succeeded and kept != expected:
                    faults["lost"].append(f"{label}: not complete after its success: {difference(expected, kept)}")
                if succeeded and drill.name == "training":
                    continue  # a finished run is not started again
                again = attempt(drill, inputs, out, work)
                if again.status != 0:
                    faults["broken"].append(f"{label}: {again.output[-800:]}")
                elif (found := drill.content(out)) != expected:
                    faults["lost"].append(f"{label}: {difference(expected, found)}")
                if left := leftovers(out):
                    faults["left"].append(f"{label}: {left}")
    record = {
        "seed": settings.seed,
        "cuts": dict(sorted(cuts.items())),
        "commands": [drill.name for drill in drills],
        "seconds": round(time.perf_counter() - started, 1),
        **faults,
    }
    same = add_record(Path(settings.out), code_digest(CODE), record)
    sys.stdout.write(json.dumps(record, indent=2) + "\n")
    sys.stdout.write(f"cuts of this code in all: {sum(sum(one['cuts'].values()) for one in same)}\n")
    return int(any(faults.values()))


def _content(drill: Drill, out: Path) -> Any:
    try:
        return drill.content(out)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
