"""The job `videos` cut into shards in several ways, and killed and run again: are the banks the same bytes?"""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from clep.extraction import ledger_path, read_ledger
from clep.extraction.engine import shards_folder
from clep.preprocess.videos import Videos

ENCODER = {"_target_": "clep.video.encoders.EfficientNetLite0"}
WAYS = {
    "1 shard": (1, 1, 1),
    "4 shards": (4, 1, 1),
    "1 shard, worker process": (1, 2, 1),
    "4 shards, 2 worker processes": (4, 2, 1),
    "1 shard, 2 PyTorch threads": (1, 1, 2),
}
"""Shards, processes, and PyTorch threads of each."""


def compare_shards(listing: Path, folder: Path) -> dict[str, Any]:
    """Encode the listed videos in every way; which banks have the bytes of the first, and the seconds of each."""
    banks, seconds = {}, {}
    for place, (way, (n_shards, processes, threads)) in enumerate(WAYS.items()):
        output = folder / f"way-{place}" / "features.h5"
        compute = {"_target_": "clep.compute.Local", "processes": processes, "threads": threads}
        options = {"encoder": ENCODER, "compute": compute, "n_shards": n_shards, "device": "cpu"}
        started = perf_counter()
        Videos(videos=listing, output=output, extraction=options).run()
        seconds[way] = perf_counter() - started
        banks[way] = output.read_bytes()
    first = banks["1 shard"]
    return {"same_bytes_as_1_shard": {way: bank == first for way, bank in banks.items()}, "seconds": seconds}


def kill_and_continue(listing: Path, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Run the job's command line once to its end, and once with SIGKILL at random moments; compare the banks.

    A kill comes after the run has begun its first video, by the clock of the whole run, and takes the command's process
    alone: its workers are to notice. What was encoded is counted from the journals that a killed run leaves behind.
    """
    whole, broken = folder / "whole" / "features.h5", folder / "broken" / "features.h5"
    subprocess.run(_command(listing, whole), check=True, stdout=subprocess.DEVNULL)
    entries = read_ledger(ledger_path(whole))
    encoding_s = sum(entry.seconds for entry in entries) / 2
    choose = random.Random(seed)
    moments = sorted(choose.uniform(0, encoding_s) for _ in range(kills))
    waits = [late - early for early, late in zip([0.0, *moments], moments, strict=False)]
    encoded, cut_off = Counter[str](), 0
    for wait in waits:
        begun = _killed(_command(listing, broken), broken, wait)
        lines = _journals(broken)
        through = [line["id"] for line in lines if "id" in line] if begun else []
        encoded.update(through)
        cut_off += sum("begins" in line for line in lines) - len(through) if begun else 0
    finished = {entry.id for path in shards_folder(broken).glob("*.jsonl") for entry in read_ledger(path)}
    if broken.exists():
        finished |= {entry.id for entry in read_ledger(ledger_path(broken))}
    subprocess.run(_command(listing, broken), check=True, stdout=subprocess.DEVNULL)
    encoded.update(entry.id for entry in entries if entry.id not in finished)
    return {
        "same_bytes": whole.read_bytes() == broken.read_bytes(),
        "killed_after_first_video_began_s": waits,
        "seconds_of_encoding": encoding_s,
        "videos": len(entries),
        "videos_encoded_twice": sum(times - 1 for times in encoded.values()),
        "videos_cut_off": cut_off,
    }


def _command(listing: Path, output: Path) -> list[str]:
    words = ["encoder=efficientnet_lite0", "compute.processes=2", "compute.threads=1", "n_shards=4", "device=cpu"]
    command = [sys.executable, "-m", "clep.preprocess", "videos", f"videos='{listing}'", f"output='{output}'"]
    return [*command, *words]


def _killed(command: list[str], output: Path, wait_s: float) -> bool:
    """Start the job and kill it `wait_s` after it began a video; False where it ended before."""
    before = _state(output)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not _state(output) - before:
            sleep(0.02)
        sleep(wait_s)
        return process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _state(output: Path) -> set[tuple[str, int, int]]:
    """Return name, inode and time of every journal: a run removes those of earlier ones before it writes its own."""
    found = set()
    for path in shards_folder(output).glob("*.journal"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ino, path.stat().st_mtime_ns))
    return found


def _journals(output: Path) -> list[dict[str, Any]]:
    text = "".join(path.read_text() for path in sorted(shards_folder(output).glob("*.journal")))
    return [json.loads(line) for line in text.splitlines()]
