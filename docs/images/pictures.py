"""Renew the pictures of the README (`make pictures`); needs a run of `python train.py experiment=demo_video`.

`similarity.png`: frames of a held-out synthetic video, and the cosine similarity of three of its narrations to each of
its seconds. `report.png` and `search.png`: the run's report, and the search page on its videos, by headless Chromium
where it is installed.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import clep
from clep.bank import FeatureBank
from clep.datasets.splits import held_out_videos
from clep.report import report
from clep.video import frames_at

DATA, RUNS = Path("data/demo_video"), Path("runs/demo_video")
VAL_FRACTION = 0.1  # of experiment=demo_video
HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REPORT_SIZE_PX, SEARCH_SIZE_PX = (1280, 1700), (1280, 900)
SENTENCE, PORT = "picks up a cup", 8792
FRAMES, COLOURS = 9, ("#0b6e99", "#c0392b", "#2e8b57")


def narrations(video: str) -> list[tuple[float, str]]:
    """Return (second, text) of the first pass of a video, in order of time."""
    passes = json.loads((DATA / "ego4d/narration.json").read_text())[video]
    found = [(n["timestamp_sec"], n["narration_text"]) for n in passes["narration_pass_1"]["narrations"]]
    return sorted(found)


def latest_run() -> Path:
    """Return the folder of the run that ended last."""
    ended = list(RUNS.glob("*/metrics.json"))
    if not ended:
        sys.exit(f"no run in {RUNS} has ended; first: python train.py experiment=demo_video")
    return max(ended, key=lambda path: path.stat().st_mtime).parent


def draw_similarity(run: Path, video: str | None = None) -> None:
    """Draw a held-out training video, the first or the one that is named, with three of its narrations."""
    model = clep.load(run)
    bank = FeatureBank.open(DATA / "clep/ego4d_features.h5")
    metadata = {v["video_uid"]: v for v in json.loads((DATA / "ego4d/ego4d.json").read_text())["videos"]}
    is_held_out = held_out_videos(list(bank.videos), VAL_FRACTION, np.arange(len(bank)))
    held_out = [video for video, chosen in zip(bank.videos, is_held_out, strict=True) if chosen]
    video = video or held_out[0]
    duration = metadata[video]["duration_sec"]
    narrated = [(second, text) for second, text in narrations(video) if text.lower().startswith("#c")]
    chosen = [narrated[int(i)] for i in np.linspace(1, len(narrated) - 2, 3)]
    _, axes = plt.subplots(2, 1, figsize=(12, 4.6), height_ratios=(1, 2.1))
    middles = [(2 * part + 1) * duration / (2 * FRAMES) for part in range(FRAMES)]
    shown = [frame for frame in frames_at(DATA / f"ego4d/videos/{video}.mp4", middles, height=160) if frame is not None]
    axes[0].imshow(np.concatenate([frame.permute(1, 2, 0).numpy() for frame in shown], axis=1), aspect="equal")
    axes[0].axis("off")
    for (second, text), colour in zip(chosen, COLOURS, strict=True):
        middle_s, cosine = model.similarity(bank, text, video, window_s=2.0, stride_s=0.5)
        axes[1].plot(middle_s, cosine, color=colour, label=text.removeprefix("#C C "))
        axes[1].axvline(second, color=colour, linestyle=":", linewidth=1)
    axes[1].set(
        xlim=(0, duration), xlabel="second of the video (dotted: when it was narrated)", ylabel="cosine similarity"
    )
    axes[1].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, ncols=3)
    plt.tight_layout()
    plt.savefig(HERE / "similarity.png", dpi=110)


def photograph_report(run: Path) -> None:
    """Save a screenshot of the report of a run."""
    photograph(report([run]).resolve().as_uri(), "report.png", REPORT_SIZE_PX)


def photograph_search(run: Path) -> None:
    """Save a screenshot of the search page on the videos of a run, after a search."""
    words = [f"model={run}", f"videos={DATA}/ego4d/videos", f"port={PORT}", "open=false"]
    with subprocess.Popen([sys.executable, "-m", "clep.search", *words]) as server:
        try:
            address = f"http://127.0.0.1:{PORT}/"
            for _ in range(120):
                with suppress(OSError), urlopen(address, timeout=1):
                    break
                time.sleep(1)
            photograph(f"{address}?q={quote(SENTENCE)}", "search.png", SEARCH_SIZE_PX)
        finally:
            server.terminate()


def photograph(address: str, name: str, size_px: tuple[int, int]) -> None:
    """Save a screenshot of a page as a picture of this folder."""
    browser = next((path for one in BROWSERS if (path := shutil.which(one))), None)
    if browser is None:
        sys.stderr.write(f"{name} stays: none of {', '.join(BROWSERS)} is installed\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / name
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=15000"]
        size = f"--window-size={size_px[0]},{size_px[1]}"
        command = [browser, *options, size, f"--screenshot={picture}", address]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        shutil.copyfile(picture, HERE / name)


def main() -> None:
    """Renew all pictures; an argument names the video of similarity.png."""
    run = latest_run()
    draw_similarity(run, sys.argv[1] if len(sys.argv) > 1 else None)
    photograph_report(run)
    photograph_search(run)


if __name__ == "__main__":
    main()
