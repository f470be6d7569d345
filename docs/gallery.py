"""Make the sample reports of the documentation site: two short trainings on a small synthetic dataset, compared.

`python docs/gallery.py` writes them into `.cache/gallery`, where the build of the site finds them. What is there stays.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from clep.files import write_json
from clep.report import report

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".cache" / "gallery"
DATASET = {
    "training_videos": 24,
    "other_videos": 4,
    "kinetics_clips": 2,
    "shortest_s": 60.0,
    "longest_s": 90.0,
    "charades_scripts": 20,
}
SMALL = (
    *(f"+synthetic.dataset.{name}={value}" for name, value in DATASET.items()),
    *("trainer.max_epochs=12", "data.batch_size=128", "logger=none", "data.sources.ego4d.val_fraction=0.2"),
)
RUNS = {"clip": ("loss=clip",), "siglip": ("loss=siglip",)}


def train(name: str, options: tuple[str, ...]) -> Path:
    """Train one run, unless its report is there, and return its folder."""
    run = FOLDER / "runs" / name
    if not (run / "report.html").is_file():
        shutil.rmtree(run, ignore_errors=True)
        words = [sys.executable, "train.py", "experiment=demo", f"paths.data={FOLDER / 'data'}"]
        subprocess.run([*words, f"hydra.run.dir={run}", *SMALL, *options], cwd=ROOT, check=True)
    return run


def main() -> None:
    """Make all pages and the list of their titles."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    runs = {name: train(name, options) for name, options in RUNS.items()}
    for name, run in runs.items():
        shutil.copyfile(run / "report.html", FOLDER / f"{name}.html")
    report(list(runs.values()), out=FOLDER / "comparison.html")
    titles = {"clip.html": "The report of a run with the CLIP loss", "siglip.html": "The same with the sigmoid loss"}
    write_json(FOLDER / "titles.json", titles | {"comparison.html": "Both runs compared"})


if __name__ == "__main__":
    main()
