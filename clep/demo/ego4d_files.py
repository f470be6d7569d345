"""Ego4D's two JSON files in their official form: narration.json and ego4d.json."""

import json
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clep.demo.encoder_rows import FPS
from clep.files import atomic_path, write_json

_SOURCES = ("harbour_college", "hill_university", "lake_institute")


def random_uid(rng: np.random.Generator) -> str:
    """Draw an identifier of the form that Ego4D gives to videos and annotations (a UUID, version 4)."""
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def narration_pass(
    rng: np.random.Generator, seconds: Sequence[float] | np.ndarray, texts: Sequence[str], duration_s: float
) -> dict[str, Any]:
    """Make the value of `narration_pass_1` or `narration_pass_2`: narrations in the order given, one summary."""
    narrations = [
        {
            "timestamp_sec": round(float(second), 3),
            "timestamp_frame": int(float(second) * FPS),
            "_unmapped_timestamp_sec": round(float(second), 3),
            "narration_text": text,
            "annotation_uid": random_uid(rng),
        }
        for second, text in zip(seconds, texts, strict=True)
    ]
    summary = {
        "start_sec": 0.0,
        "end_sec": duration_s,
        "summary_text": "#Summary C works with several things",
        "annotation_uid": random_uid(rng),
    }
    return {"narrations": narrations, "summaries": [summary]}


def write_narration_json(path: str | Path, entries: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Write narration.json from (video uid, entry) pairs, one at a time: a file of any size needs little memory."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("{")
        for number, (uid, entry) in enumerate(entries):
            file.write(("," if number else "") + f"\n{json.dumps(uid)}:{json.dumps(entry, ensure_ascii=False)}")
        file.write("\n}\n")


def video_metadata(
    uid: str,
    duration_s: float,
    number: int,
    split_em: str | None = None,
    split_fho: str | None = None,
    split_av: str | None = None,
    is_stereo: bool = False,
    redacted: bool = False,
    scenario: str = "Cooking",
    fps: float = float(FPS),
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Make one item of `videos` of ego4d.json, with every key of the official schema.

    `fps` is the mean rate of the video's own frames and `size` their width and height as shown; the canonical frames of
    components are always 30 a second.
    """
    frames = round(duration_s * fps)
    canonical_frames = round(duration_s * FPS)
    width, height = size or ((1280, 480) if is_stereo else (1440, 1080))
    stream = {
        "fps": fps,
        "num_frames": frames,
        "video_codec": "h264",
        "display_resolution_width": width,
        "display_resolution_height": height,
        "sample_resolution_width": width,
        "sample_resolution_height": height,
        "mp4_duration_sec": duration_s,
        "video_start_sec": 0.0,
        "video_duration_sec": duration_s,
        "audio_start_sec": None,
        "audio_duration_sec": None,
        "video_start_pts": 0,
        "video_duration_pts": canonical_frames * 512,
        "video_base_numerator": 1,
        "video_base_denominator": FPS * 512,
        "audio_start_pts": None,
        "audio_duration_pts": None,
        "audio_base_numerator": None,
        "audio_base_denominator": None,
    }
    component = {
        "video_component_uid": str(uuid.uuid5(uuid.NAMESPACE_OID, uid)),
        "video_uid": uid,
        "component_idx": 0,
        "redacted": redacted,
        "canonical_video_start_sec": 0.0,
        "canonical_video_end_sec": duration_s,
        "canonical_video_start_frame": 0,
        "canonical_video_end_frame": max(canonical_frames - 1, 0),
        "video_metadata": stream,
    }
    redaction = {"start_sec": 0.0, "end_sec": 1.0, "start_frame": 0, "end_frame": FPS}
    return {
        "video_uid": uid,
        "duration_sec": duration_s,
        "scenarios": [scenario],
        "video_metadata": stream,
        "split_em": split_em,
        "split_av": split_av,
        "split_fho": split_fho,
        "s3_path": f"s3://simulated/full_scale/{uid}.mp4",
        "origin_video_id": f"simulated_{number:05d}",
        "video_source": _SOURCES[number % len(_SOURCES)],
        "device": None,
        "physical_setting_name": None,
        "fb_participant_id": number // 4,
        "is_stereo": is_stereo,
        "has_imu": False,
        "has_gaze": False,
        "imu_s3_path": None,
        "imu_manifold_path": None,
        "gaze_s3_path": None,
        "gaze_manifold_path": None,
        "video_components": [component],
        "concurrent_sets": None,
        "has_redacted_regions": redacted,
        "redacted_intervals": [redaction] if redacted else [],
        "gaps": None,
    }


def write_ego4d_json(path: str | Path, videos: list[dict[str, Any]]) -> None:
    """Write ego4d.json around its list of videos."""
    write_json(
        path,
        {
            "date": "220126",
            "version": "1.0",
            "description": "Simulated metadata in the form of Ego4D",
            "videos": videos,
            "concurrent_video_sets": [],
            "physical_settings": [],
            "clips": [],
        },
    )
