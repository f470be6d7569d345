"""Simulated features for existing annotation files, real ones included, and narration files of any size."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clep.demo.annotation_files import (
    narration_pass,
    random_uid,
    video_metadata,
    write_ego4d_json,
    write_narration_json,
)
from clep.demo.encoder import ActionSpan, EncoderSettings, FrozenEncoder, random_of
from clep.demo.feature_files import write_feature_files
from clep.demo.grammar import NOUNS, PLACES, VERBS, Action, narrate, read_action
from clep.errors import InputError
from clep.files import read_json
from clep.tables import parse_whole_seconds, read_table

_PASSES = ("narration_pass_1", "narration_pass_2")
_LONGEST_HALF_S = 1.5


def simulate_features(
    narration_json: str | Path,
    ego4d_json: str | Path,
    out_folder: str | Path,
    seed: int = 0,
    dtype: str = "float32",
    limit: int | None = None,
    settings: EncoderSettings | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Write `<uid>.pt` for each video of a narration.json: simulated features of the actions in its narrations.

    An action lasts from halfway to the previous narration of its pass to halfway to the next, at most 1.5 seconds to
    each side. Actions of the two passes blend where they overlap. A video without narrations has idle rows. Existing
    files are kept.

    Args:
        narration_json: Ego4D's narration.json.
        ego4d_json: Ego4D's ego4d.json, for the length of each video.
        out_folder: folder of the .pt files.
        seed: seed of the encoder; features of one seed share one space.
        dtype: "float32" or "float16".
        limit: maximal number of videos, in order of uid.
        settings: settings of the encoder.
        progress: show a progress bar.

    Raises:
        InputError: a file is missing or malformed, or a narrated video is not in ego4d.json.
    """
    narrated = read_json(narration_json)
    durations = _durations(Path(ego4d_json))
    uids = sorted(narrated)[:limit]
    absent = [uid for uid in uids if uid not in durations]
    if absent:
        raise InputError(
            f"{ego4d_json} has no duration_sec for {len(absent)} of {len(uids)} videos of {narration_json}, the "
            f"first is {absent[0]!r}: use the two files of one release"
        )
    encoder = FrozenEncoder(seed, settings)

    def rows(uid: str) -> Float[Tensor, "rows dim"]:
        return encoder.encode(uid, durations[uid], _action_spans(narrated[uid], durations[uid]))

    makers = ((uid, partial(rows, uid)) for uid in uids)
    return write_feature_files(out_folder, encoder, makers, dtype, "features of narrated videos", progress)


def simulate_kinetics(
    csv_path: str | Path,
    out_folder: str | Path,
    seed: int = 0,
    dtype: str = "float32",
    limit: int | None = None,
    settings: EncoderSettings | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Write `<youtube_id>_<start:06d>_<end:06d>.pt` for each line of a Kinetics csv; arguments as `simulate_features`.

    The clip shows the action of its label, with up to 1.5 idle seconds at either end, in a random place.

    Raises:
        InputError: the csv is missing or lacks a column.
    """
    encoder = FrozenEncoder(seed, settings)
    clips = [
        (name, partial(encode_labelled_clip, encoder, name, label, float(duration_s)))
        for name, label, duration_s in read_kinetics(csv_path)[:limit]
    ]
    return write_feature_files(out_folder, encoder, clips, dtype, "features of Kinetics clips", progress)


def read_kinetics(csv_path: str | Path) -> list[tuple[str, str, int]]:
    """Read a Kinetics csv: file name without suffix, label and duration (seconds) of each clip.

    Raises:
        InputError: the csv is missing or lacks a column.
    """
    table = read_table(csv_path, ("label", "youtube_id", "time_start", "time_end"))
    starts, ends = (parse_whole_seconds(table[column], csv_path) for column in ("time_start", "time_end"))
    return [
        (f"{youtube_id}_{start:06d}_{end:06d}", label, end - start)
        for youtube_id, label, start, end in zip(table["youtube_id"], table["label"], starts, ends, strict=True)
    ]


def encode_labelled_clip(
    encoder: FrozenEncoder, clip_id: str, label: str, duration_s: float = 10.0
) -> Float[Tensor, "rows dim"]:
    """Encode a clip that shows the action of its label; everything else is seeded by `clip_id`."""
    rng = random_of(encoder.seed, "clip", clip_id)
    idle_s = rng.uniform(0.0, min(1.5, duration_s / 4), 2)
    action = read_action(label.replace("_", " ").replace('"', ""))
    shown = ActionSpan(float(idle_s[0]), float(duration_s - idle_s[1]), action)
    return encoder.encode(clip_id, duration_s, [shown], PLACES[rng.integers(len(PLACES))].name)


def simulate_ego_charades(
    csv_path: str | Path,
    classes_txt: str | Path,
    out_folder: str | Path,
    seed: int = 0,
    dtype: str = "float32",
    limit: int | None = None,
    settings: EncoderSettings | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Write `<id>.pt` for each line of a CharadesEgo csv; arguments as `simulate_features`.

    Actions last from their start to their end in the csv. Videos with `egocentric` = "Yes" have the view of the camera
    wearer, the others that of an onlooker: the encoder's fixed rotation, which is rare in training videos.

    Raises:
        InputError: a file is missing, the csv lacks a column, or an action's class is not in the list.
    """
    names = dict(line.split(" ", 1) for line in Path(classes_txt).read_text(encoding="utf-8").splitlines() if line)
    encoder = FrozenEncoder(seed, settings)
    table = read_table(csv_path, ("id", "scene", "actions", "length", "egocentric"))
    lines: list[dict[Any, str]] = table.to_dict("records")[:limit]
    actions = {key: read_action(name) for key, name in names.items()}

    def rows(line: dict[Any, str]) -> Float[Tensor, "rows dim"]:
        shown = []
        for item in filter(None, line["actions"].split(";")):
            key, start_s, end_s = item.split()
            if key not in actions:
                raise InputError(f"{csv_path}: video {line['id']!r} has class {key!r}, which {classes_txt} lacks")
            action = actions[key]._replace(by_other=line["egocentric"] != "Yes")
            shown.append(ActionSpan(float(start_s), float(end_s), action))
        return encoder.encode(line["id"], float(line["length"]), shown, line["scene"].lower())

    makers = ((line["id"], partial(rows, line)) for line in lines)
    return write_feature_files(out_folder, encoder, makers, dtype, "features of Charades-Ego videos", progress)


def simulate_narrations(
    out_folder: str | Path, n_videos: int, n_narrations: int, seed: int = 0, every_s: float = 3.8
) -> dict[str, int]:
    """Write a narration.json and an ego4d.json of any size: `n_videos` videos of two passes, `n_narrations` in total.

    Each pass has a narration about every `every_s` seconds; all verb–noun pairs of the grammar occur, and all videos
    are in training splits. For benchmarks of speed and memory: no pair is held out.

    Raises:
        InputError: fewer than two narrations per video.
    """
    if n_videos < 1 or n_narrations < 2 * n_videos:
        raise InputError(
            f"n_videos={n_videos} must be at least 1, and n_narrations={n_narrations} at least 2 per video"
        )
    rng = random_of(seed, "narrations", n_videos, n_narrations)
    shares = np.full(2 * n_videos, n_narrations // (2 * n_videos))
    shares[: n_narrations - shares.sum()] += 1
    videos: list[dict[str, Any]] = []

    def entries() -> Iterator[tuple[str, dict[str, Any]]]:
        for index in range(n_videos):
            uid, counts = random_uid(rng), shares[2 * index : 2 * index + 2]
            duration_s = round(float(counts.max() * every_s * rng.uniform(1.0, 1.2)) + 1.0, 1)
            passes = {}
            for name, count in zip(_PASSES, counts, strict=True):
                nothing = np.zeros(count, dtype=bool)
                texts = narrate(
                    rng,
                    rng.integers(len(VERBS), size=count),
                    rng.integers(len(NOUNS), size=count),
                    np.full(count, index % len(PLACES)),
                    rng.random(count) < 0.08,
                    nothing,
                )
                passes[name] = narration_pass(rng, np.sort(rng.uniform(0, duration_s, count)), texts, duration_s)
            videos.append(video_metadata(uid, duration_s, index))
            yield uid, {"status": "complete", **passes}

    write_narration_json(Path(out_folder) / "narration.json", entries())
    write_ego4d_json(Path(out_folder) / "ego4d.json", videos)
    return {"videos": n_videos, "narrations": n_narrations}


def shuffled_narrations(source: str | Path, target: str | Path, seed: int = 0) -> int:
    """Copy a narration.json with its texts permuted across all narrations of all videos; times and ids stay.

    A control: a model trained on the copy has no true pairs and must stay at chance. Returns the number of texts.

    Raises:
        InputError: `source` is missing or is not JSON.
    """
    narrated: dict[str, Any] = read_json(source)
    slots = [
        narration
        for entry in narrated.values()
        for name in _PASSES
        for narration in (entry.get(name) or {}).get("narrations", [])
    ]
    texts = [narration["narration_text"] for narration in slots]
    for narration, text in zip(slots, random_of(seed, "shuffled").permutation(len(texts)), strict=True):
        narration["narration_text"] = texts[text]
    write_narration_json(target, narrated.items())
    return len(texts)


def _durations(path: Path) -> dict[str, float]:
    try:
        return {video["video_uid"]: float(video["duration_sec"]) for video in read_json(path)["videos"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not Ego4D's ego4d.json: every item of videos needs {error}") from error


def _action_spans(entry: dict[str, Any], duration_s: float) -> list[ActionSpan]:
    shown: list[ActionSpan] = []
    actions: dict[str, Action] = {}
    for name in _PASSES:
        narrations = (entry.get(name) or {}).get("narrations", [])
        ordered = sorted(narrations, key=lambda narration: narration["timestamp_sec"])
        second = np.array([narration["timestamp_sec"] for narration in ordered], dtype=np.float64)
        half = np.minimum(np.diff(second, prepend=-np.inf, append=np.inf) / 2, _LONGEST_HALF_S)
        for i, narration in enumerate(ordered):
            text = narration["narration_text"]
            if text not in actions:
                actions[text] = read_action(text)
            start_s, end_s = max(second[i] - half[i], 0.0), min(second[i] + half[i + 1], duration_s)
            if end_s > start_s:
                shown.append(ActionSpan(float(start_s), float(end_s), actions[text]))
    return shown
