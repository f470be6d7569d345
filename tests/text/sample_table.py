"""Small tables of narrations for these tests."""

import json
from pathlib import Path
from typing import Any

from clep.datasets.ego4d import read_ego4d
from clep.text import NarrationTable


def narration(second: Any, text: Any) -> dict[str, Any]:
    return {"timestamp_sec": second, "timestamp_frame": 0, "narration_text": text, "annotation_uid": "u"}


def passes(first: list | None = None, second: list | None = None, status: str = "complete") -> dict[str, Any]:
    video: dict[str, Any] = {"status": status}
    for number, rows in ((1, first), (2, second)):
        if rows is not None:
            video[f"narration_pass_{number}"] = {"narrations": [narration(*row) for row in rows], "summaries": []}
    return video


def about(uid: str, duration: float | None = 100.0, em=None, fho=None, av=None) -> dict[str, Any]:
    return {"video_uid": uid, "duration_sec": duration, "split_em": em, "split_fho": fho, "split_av": av}


def write_inputs(folder: Path, narrations: Any, videos: list[Any] | None) -> tuple[Path, Path | None]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "narration.json").write_text(json.dumps(narrations))
    if videos is None:
        return folder / "narration.json", None
    (folder / "ego4d.json").write_text(json.dumps({"videos": videos}))
    return folder / "narration.json", folder / "ego4d.json"


def table(folder: Path, narrations: Any, videos: list[Any] | None = None, tag_style: str = "clean") -> NarrationTable:
    return read_ego4d(*write_inputs(folder, narrations, videos), tag_style=tag_style)
