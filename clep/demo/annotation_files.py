"""Writers of the datasets' annotation files in their official formats: Ego4D, Kinetics and Charades-Ego."""

import csv
import json
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clep.demo.encoder import FPS, random_of
from clep.demo.grammar import NOUNS, PLACES, VERBS, charades_class, kinetics_label
from clep.files import atomic_path, write_json

KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
CHARADES_COLUMNS = (
    *("id", "subject", "scene", "quality", "relevance", "verified", "script", "objects", "descriptions"),
    *("actions", "length", "egocentric", "charades_video"),
)
_SOURCES = ("harbour_college", "hill_university", "lake_institute")
_YOUTUBE = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
_CHARADES = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
_CLIP_S = 10


def random_uid(rng: np.random.Generator) -> str:
    """Draw an id in the form of Ego4D's videos and annotations (a UUID, version 4)."""
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def narration_pass(
    rng: np.random.Generator, seconds: Sequence[float] | np.ndarray, texts: Sequence[str], duration_s: float
) -> dict[str, Any]:
    """Return the value of `narration_pass_1` or `narration_pass_2`: narrations in the given order, one summary."""
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
    """Write narration.json from (video uid, entry) pairs, one at a time, so that memory stays small."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("{")
        for index, (uid, entry) in enumerate(entries):
            file.write(("," if index else "") + f"\n{json.dumps(uid)}:{json.dumps(entry, ensure_ascii=False)}")
        file.write("\n}\n")


def video_metadata(
    uid: str,
    duration_s: float,
    index: int,
    split_em: str | None = None,
    split_fho: str | None = None,
    split_av: str | None = None,
    is_stereo: bool = False,
    redacted: bool = False,
    scenario: str = "Cooking",
    fps: float = float(FPS),
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Return one item of `videos` of ego4d.json, with every key of the official schema.

    `fps` is the mean rate of the video's own frames and `size` their displayed width and height; the canonical frames
    of components always have 30 fps. `index` sets the source and the participant.
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
        "origin_video_id": f"simulated_{index:05d}",
        "video_source": _SOURCES[index % len(_SOURCES)],
        "device": None,
        "physical_setting_name": None,
        "fb_participant_id": index // 4,
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
    """Write ego4d.json with the given list of videos."""
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


def write_kinetics(path: str | Path, pairs: list[tuple[int, int]], clips: int, seed: int, clip_s: int = _CLIP_S) -> int:
    """Write val.csv: `clips` clips of `clip_s` seconds of each pair, in random order; return the number of clips."""
    rng = random_of(seed, "kinetics")
    lines = []
    for verb, noun in pairs:
        for _ in range(clips):
            start = int(rng.integers(0, 600))
            youtube_id = "".join(rng.choice(_YOUTUBE, 11))
            lines.append(
                (kinetics_label(verb, noun), youtube_id, start, start + clip_s, "val", int(rng.random() < 0.1))
            )
    write_csv(path, KINETICS_COLUMNS, [lines[i] for i in rng.permutation(len(lines))])
    return len(lines)


def charades_pairs(unseen: list[tuple[int, int]], classes: int, seed: int) -> list[tuple[int, int]]:
    """Draw the (verb, noun) pairs of the Charades-like classes: two thirds held out, the others narrated, shuffled."""
    rng = random_of(seed, "charades classes")
    absent = set(unseen)
    seen = [(v, n) for v in range(len(VERBS)) for n in range(len(NOUNS)) if (v, n) not in absent]
    new = -(-2 * classes // 3)
    chosen = [unseen[i] for i in rng.choice(len(unseen), new, replace=False)]
    chosen += [seen[i] for i in rng.choice(len(seen), classes - new, replace=False)]
    return [chosen[i] for i in rng.permutation(classes)]


def write_charades_classes(path: str | Path, pairs: list[tuple[int, int]]) -> None:
    """Write Charades_v1_classes.txt, lines like "c008 Opening a bottle"; the last tenth starts with "Someone is"."""
    spoken = len(pairs) - len(pairs) // 10
    lines = [f"c{i:03d} {charades_class(verb, noun, i >= spoken)}" for i, (verb, noun) in enumerate(pairs)]
    write_text(path, "\n".join(lines) + "\n")


def write_charades_csv(path: str | Path, pairs: list[tuple[int, int]], scripts: int, seed: int) -> int:
    """Write CharadesEgo_v1_test.csv: each script filmed in third person (`AB3CD`) and in first (`AB3CDEGO`).

    A script has 4 to 8 actions that may overlap; times differ a little between its two videos. Every fiftieth video has
    no labels, as happens in the official file. Returns the number of videos.
    """
    rng = random_of(seed, "charades", Path(path).name)
    lines: list[tuple[Any, ...]] = []
    for _ in range(scripts):
        name, subject = "".join(rng.choice(_CHARADES, 5)), "".join(rng.choice(_CHARADES, 4))
        scene = PLACES[rng.integers(len(PLACES))].name
        shown = rng.choice(len(pairs), min(int(rng.integers(4, 9)), len(pairs)), replace=False)
        length_s = rng.uniform(20, 35)
        start_s = np.sort(rng.uniform(0, length_s - 6, len(shown)))
        end_s = np.minimum(start_s + rng.uniform(4, 9, len(shown)), length_s)
        phrases = [charades_class(*pairs[i]).lower() for i in shown]
        for egocentric in ("No", "Yes"):
            shift_s = rng.uniform(-0.5, 0.5, len(shown))
            spans = zip(np.clip(start_s + shift_s, 0, None), np.minimum(end_s + shift_s, length_s), strict=True)
            actions = [f"c{i:03d} {a:.2f} {b:.2f}" for i, (a, b) in zip(shown, spans, strict=True)]
            lines.append(
                (
                    name + ("EGO" if egocentric == "Yes" else ""),
                    subject,
                    scene.capitalize(),
                    int(rng.integers(3, 8)),
                    int(rng.integers(3, 8)),
                    "Yes",
                    f"A person is {' and then '.join(phrases)}.",
                    ";".join(sorted({NOUNS[pairs[i][1]] for i in shown})),
                    f"A person in the {scene} is {', '.join(phrases)}.",
                    "" if len(lines) % 50 == 49 else ";".join(actions),
                    f"{length_s:.2f}",
                    egocentric,
                    "No",
                )
            )
    write_csv(path, CHARADES_COLUMNS, lines)
    return len(lines)


def write_csv(path: str | Path, columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Write a csv file with a header, atomically."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
