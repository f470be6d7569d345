"""Ego4D's ego4d.json: how long each video is and to which benchmark splits it belongs."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.errors import InputError
from clep.files import read_json
from clep.text.table import SPLITS

_REMEDY = "Check that it is Ego4D's ego4d.json, and fetch it again if it is"


@dataclass(frozen=True)
class VideoMetadata:
    """One video: duration in seconds, NaN where unknown, and its splits, "" where there is none."""

    duration_s: float = math.nan
    splits: tuple[str, ...] = ("",) * len(SPLITS)


def read_ego4d_metadata(path: str | Path) -> dict[str, VideoMetadata]:
    """Read duration and splits of every video of an ego4d.json, by video id.

    Raises:
        InputError: the file is missing, cut off, or a video lacks a key. A split that is absent is refused rather
            than read as null, since videos of the test sets would then be trained on.
    """
    content = read_json(path)
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, list):
        raise InputError(f"{path} has no list under the key 'videos'. {_REMEDY}")
    found: dict[str, VideoMetadata] = {}
    for position, video in enumerate(videos):
        uid = video.get("video_uid") if isinstance(video, dict) else None
        if not isinstance(uid, str):
            raise InputError(f"{path}: videos[{position}] has no string under 'video_uid'. {_REMEDY}")
        if uid in found:
            raise InputError(f"{path} has the video {uid!r} twice. {_REMEDY}")
        splits = tuple(_split(path, uid, video, key) for key in SPLITS)
        found[uid] = VideoMetadata(_duration(path, uid, video), splits)
    return found


def _duration(path: str | Path, uid: str, video: dict[str, Any]) -> float:
    value = video.get("duration_sec")
    if value is None:
        return math.nan
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise InputError(f"{path}: 'duration_sec' of {uid!r} is {value!r}, not seconds or null. {_REMEDY}")
    return float(value)


def _split(path: str | Path, uid: str, video: dict[str, Any], key: str) -> str:
    value = video.get(key, 0)
    if value is not None and not isinstance(value, str):
        was = "absent" if key not in video else repr(value)
        raise InputError(f"{path}: {key!r} of {uid!r} is {was}; it should be a split's name or null. {_REMEDY}")
    return value or ""
