"""Each kind of dataset generates the same data for the same settings and seed, version after version.

Published figures refer to this data. Annotations are compared byte for byte. Features and frames are compared by a few
projections with a tolerance, since float sums, and so the last bits, depend on the processor. Videos are compared
before they are encoded, since H.264 bytes depend on the version of PyAV.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.demo import (
    EncoderSettings,
    SyntheticAVA,
    SyntheticFeatures,
    SyntheticLongTerm,
    SyntheticObjectives,
    SyntheticVideos,
    simulate_narrations,
)
from clep.demo.drawing.video_file import Renderer

_ENCODER = EncoderSettings(dim=16, hidden=8)
_SHORT = {"training_videos": 1, "test_videos": 1, "shortest_s": 60.0, "longest_s": 62.0, "encoder": _ENCODER}
_VIDEOS = {"training_videos": 1, "other_videos": 0, "shortest_s": 10.0, "longest_s": 12.0, "unseen_per_verb": 1}
FEATURES = SyntheticFeatures(**_VIDEOS, kinetics_clips=1, charades_classes=12, charades_scripts=2, encoder=_ENCODER)
VIDEOS = SyntheticVideos(**_VIDEOS, kinetics_clips=1, kinetics_clip_s=1, width=96, height=64)
ANNOTATIONS = {
    "clep-synthetic-features": {
        "ego4d/ego4d.json": "8887f9db18905114",
        "ego4d/features/simulated.json": "8d7c8f2da19c8c86",
        "ego4d/narration.json": "a42303fe17c828fc",
        "ego_charades/CharadesEgo_v1_test.csv": "af8fd5aae1aad435",
        "ego_charades/CharadesEgo_v1_train.csv": "6140c8b7d3fed24a",
        "ego_charades/Charades_v1_classes.txt": "2de9d6d7e9f960d0",
        "ego_charades/features/simulated.json": "8d7c8f2da19c8c86",
        "kinetics/features/simulated.json": "8d7c8f2da19c8c86",
        "kinetics/val.csv": "8e767371bcb80dd7",
    },
    "clep-synthetic-long-term": {
        "ego4d/ego4d.json": "42ddbfc45bc7a052",
        "ego4d/features/simulated.json": "8d7c8f2da19c8c86",
        "ego4d/narration.json": "8df33b103ceb14b5",
        "ego4d/questions.json": "e0ed14bb19ee83da",
    },
    "clep-synthetic-objectives": {
        "ego4d/ego4d.json": "ec3618c7c7c7a8a7",
        "ego4d/features/simulated.json": "8d7c8f2da19c8c86",
        "ego4d/narration.json": "dadd78cefbec576e",
        "ego4d/questions.json": "e032f595e17d9895",
        "taxonomy/narration_noun_taxonomy.csv": "5015b2b189224e0c",
        "taxonomy/narration_verb_taxonomy.csv": "77427093db894ec4",
    },
    "clep-synthetic-videos": {
        "ego4d/ego4d.json": "99ca78c89d0ebd04",
        "ego4d/narration.json": "760252e343fb0547",
        "kinetics/val.csv": "cc01874d2711113e",
    },
    "clep-synthetic-ava": {
        "ava/ava_proposals_train.csv": "c5df83c044f4807f",
        "ava/ava_proposals_val.csv": "d2664c1eee3c2457",
        "ava/ava_train_excluded_timestamps_v2.2.csv": "bf038ac85993dd8d",
        "ava/ava_train_v2.2.csv": "dd06a1195ad3ad6c",
        "ava/ava_val_excluded_timestamps_v2.2.csv": "b04eb25ebd12fe7d",
        "ava/ava_val_v2.2.csv": "6b74741437f6ffc0",
    },
    "narrations": {"ego4d.json": "733312f48f6d82df", "narration.json": "e73237cc39a41a20"},
}
ROWS = {
    "clep-synthetic-features/ego4d": [0.1091, 0.8855, 0.1909],
    "clep-synthetic-features/ego_charades": [-0.0103, 0.8093, -0.603],
    "clep-synthetic-features/kinetics": [-0.0518, 0.9255, -0.0186],
    "clep-synthetic-long-term/ego4d": [-0.1056, 0.8327, 0.3727],
    "clep-synthetic-objectives/ego4d": [-0.0974, 0.7509, -0.0183],
}
FRAMES = [[131.05, 37.76, -9.93], [143.61, 33.22, 4.34]]


def digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":  # the values, whatever the layout
        value = json.loads(content)
        if isinstance(value, dict):
            value.pop("checksum", None)
        content = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def annotations(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.suffix in {".json", ".csv", ".txt"})
    return {str(path.relative_to(folder)): digest(path) for path in sorted(files) if path.name != "dataset.json"}


def projections(values: np.ndarray) -> list[float]:
    """Return the mean, the standard deviation and a weighted sum that depends on the order."""
    flat = values.astype(np.float64).ravel()
    weights = np.cos(np.arange(flat.size))
    return [float(flat.mean()), float(flat.std()), float((flat * weights).sum() / flat.size**0.5)]


@pytest.mark.parametrize(
    "dataset", [FEATURES, SyntheticLongTerm(**_SHORT), SyntheticObjectives(**_SHORT)], ids=lambda one: one.format
)
def test_annotations_and_features(tmp_path: Path, dataset: SyntheticFeatures) -> None:
    dataset.make(tmp_path, seed=1, progress=False)
    assert annotations(tmp_path) == ANNOTATIONS[dataset.format]
    for folder in tmp_path.glob("*/features"):
        rows = [torch.load(path, weights_only=True).flatten() for path in sorted(folder.glob("*.pt"))]
        expected = ROWS[f"{dataset.format}/{folder.parent.name}"]
        assert projections(torch.cat(rows).numpy()) == pytest.approx(expected, abs=2e-3)


def test_annotations_and_frames_of_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    monkeypatch.setattr("clep.demo.videos.write_video", lambda path, *_: path.parent.mkdir(exist_ok=True))
    VIDEOS.make(tmp_path, seed=1, progress=False)
    assert annotations(tmp_path) == ANNOTATIONS[VIDEOS.format]
    for index, plan in enumerate(VIDEOS.videos(1)):
        renderer = Renderer(plan.video.scene, 96, 64)
        frames = np.stack([renderer.frame(second, 0.02 * index) for second in (0.3, 1.2, 4.0)])
        assert projections(frames) == pytest.approx(FRAMES[index], abs=0.5)


def test_annotations_of_ava(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clep.demo.ava._write_video", lambda *_: None)
    SyntheticAVA(train_videos=2, val_videos=2, video_s=8, talk_s=2).make(tmp_path, seed=1, progress=False)
    assert annotations(tmp_path) == ANNOTATIONS["clep-synthetic-ava"]


def test_narrations_of_any_size(tmp_path: Path) -> None:
    simulate_narrations(tmp_path, 3, 101, seed=1)
    assert annotations(tmp_path) == ANNOTATIONS["narrations"]
