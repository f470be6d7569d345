"""A few hundred narrations with random features and text embeddings, in files, for tests of what is above the banks."""

import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from clep.bank import BankWriter, Clock
from clep.data import NarrationSource
from clep.datasets.ego4d import read_ego4d
from clep.text import Narrations

VIDEO_DIM, TEXT_DIM = 12, 8


def write_tiny_files(folder: Path, videos: int = 12, per_video: int = 20, seed: int = 0, name: str = "v") -> None:
    """Write narration.json, narrations.arrow, texts.h5 and bank.h5 into `folder`."""
    shutil.copytree(_made_once(videos, per_video, seed, name).name, folder, dirs_exist_ok=True)


@functools.cache
def _made_once(videos: int, per_video: int, seed: int, name: str) -> tempfile.TemporaryDirectory:
    made = tempfile.TemporaryDirectory(prefix="clep-tests-")
    folder = Path(made.name)
    random = np.random.default_rng(seed)
    endings = ("", " again")
    verbs, nouns = ("opens", "closes", "takes", "washes"), ("door", "cup", "fridge", "knife", "pan", "tap")
    written = {}
    for video in range(videos):
        narrations = [
            {
                "timestamp_sec": float(second),
                "timestamp_frame": int(second * 30),
                "narration_text": f"#C C {random.choice(verbs)} the {random.choice(nouns)}{random.choice(endings)}",
                "annotation_uid": f"{video}-{second:.2f}",
            }
            for second in random.uniform(1, 59, per_video)
        ]
        written[f"{name}{video:02d}"] = {
            "narration_pass_1": {"narrations": narrations[::2], "summaries": []},
            "narration_pass_2": {"narrations": narrations[1::2], "summaries": []},
            "status": "complete",
        }
    (folder / "narration.json").write_text(json.dumps(written))
    read_ego4d(folder / "narration.json").write(folder / "narrations.arrow")
    narrations = Narrations.open(folder / "narrations.arrow")
    with BankWriter(folder / "texts.h5", TEXT_DIM, None, "float32", source=narrations.digest) as writer:
        writer.add("texts", random.standard_normal((len(narrations.texts), TEXT_DIM)).astype(np.float32))
    with BankWriter(folder / "bank.h5", VIDEO_DIM, Clock(), "float32", encoder="tiny") as writer:
        for video in range(videos):
            rows = random.standard_normal((111, VIDEO_DIM)).astype(np.float32)
            writer.add(f"{name}{video:02d}", rows, duration_s=60.0)
    return made


def tiny_source(folder: Path, **options: object) -> NarrationSource:
    """Return a source over the files of `folder`, which are written if they are not there."""
    if not (folder / "bank.h5").exists():
        write_tiny_files(folder)
    files = {"narrations": "narrations.arrow", "texts": "texts.h5", "bank": "bank.h5"}
    return NarrationSource(**{key: str(folder / name) for key, name in files.items()}, **options)
