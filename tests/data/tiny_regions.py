"""A region bank without videos: a row shows a person's clothes; who watches depends on the minute."""

from pathlib import Path

import numpy as np

from clep.bank import BankWriter, Clock
from clep.data import Regions

POSES = (11, 12, 14)
TALKS, WATCHES = 79, 80
CLASSES = (*POSES, TALKS, WATCHES)
DIM = 12


def write_regions(
    folder: Path, name: str, videos: int, seed: int, detected: bool = False, encoder: str = "tiny"
) -> Path:
    """Write a bank of videos of 12 seconds with 2 people each, and the ground truth of those that are detected.

    In every second video somebody talks for three seconds, and all others watch.
    """
    rng = np.random.default_rng(seed)
    prototypes = np.random.default_rng(99).normal(size=(4, DIM)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list] = {key: [] for key in ("video", "second", "box", "actions")}
    lines = []
    with BankWriter(folder / f"{name}.h5", DIM, Clock.irregular(1.0), encoder=encoder) as writer:
        for video in range(videos):
            talk = int(rng.integers(10)) if video % 2 == 0 else -9
            rows, seconds = [], []
            for second in range(12):
                people = [*rng.integers(3, size=2).tolist(), *([3] if talk <= second < talk + 3 else [])]
                for place, kind in enumerate(people):
                    box = [0.1 + 0.25 * place, 0.1, 0.3 + 0.25 * place, 0.9]
                    actions = [TALKS] if kind == 3 else [POSES[kind], *([WATCHES] if talk >= 0 else [])]
                    rows.append(prototypes[kind] + 0.1 * rng.normal(size=DIM))
                    seconds.append(900.0 + second)
                    columns["video"].append(video)
                    columns["box"].append(box)
                    columns["actions"].append([] if detected else actions)
                    lines += [
                        f"v{video},{900 + second},{','.join(map(str, box))},{action},{place}" for action in actions
                    ]
            columns["second"] += seconds
            writer.add(f"v{video}", np.array(rows, np.float32), np.array(seconds))
    n = len(columns["video"])
    Regions(
        videos=tuple(f"v{video}" for video in range(videos)),
        boxes_digest=("",) * videos,
        video=np.array(columns["video"], np.int32),
        second=np.array(columns["second"]),
        box=np.array(columns["box"], np.float32),
        score=np.ones(n, np.float32),
        person=np.full(n, -1, np.int32),
        annotated=np.full(n, not detected),
        first_action=np.cumsum([0, *(len(ids) for ids in columns["actions"])], dtype=np.int64),
        action=np.array([action for ids in columns["actions"] for action in ids], np.int32),
    ).write(folder / f"{name}.regions.h5")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "map.txt").write_text("\n".join(f"{action}: a{action}" for action in CLASSES) + "\n")
    return folder / f"{name}.h5"
