"""Ego4D's narration.json and ego4d.json (Grauman et al., CVPR 2022)."""

import logging
import math
import re
import reprlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clep.datasets.json_members import json_members
from clep.errors import InputError
from clep.files import read_json
from clep.text.narration_table import SPLITS, NarrationTable, VideoMetadata, assemble
from clep.text.tags import TAG_STYLES

_log = logging.getLogger(__name__)
_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 100
_REMEDY = "Check that it is Ego4D's ego4d.json, and fetch it again if it is"


def read_ego4d_metadata(path: str | Path) -> dict[str, VideoMetadata]:
    """Read duration and splits of every video of an ego4d.json, by video id.

    Raises:
        InputError: the file is missing or truncated, or a video lacks a key. A missing split is not read as null, since
            videos of the test sets would then be trained on.
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
            raise InputError(f"{path} has the duplicate video {uid!r}. {_REMEDY}")
        splits = tuple(_split(path, uid, video, key) for key in SPLITS)
        found[uid] = VideoMetadata(_duration(path, uid, video), splits)
    return found


def _duration(path: str | Path, uid: str, video: dict[str, Any]) -> float:
    value = video.get("duration_sec")
    if value is None:
        return math.nan
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise InputError(f"{path}: 'duration_sec' of {uid!r} is {_shown.repr(value)}, not seconds or null. {_REMEDY}")
    return float(value)


def _split(path: str | Path, uid: str, video: dict[str, Any], key: str) -> str:
    value = video.get(key, 0)
    if value is not None and not isinstance(value, str):
        found = "missing" if key not in video else repr(value)
        raise InputError(f"{path}: {key!r} of {uid!r} is {found}; it must be a split's name or null. {_REMEDY}")
    return value or ""


_PASS = re.compile(r"narration_pass_([1-9]\d?)")
_WRONG_FILE = "Check that it is Ego4D's narration.json, and fetch it again if it is"


def read_ego4d(
    narration_json: str | Path, ego4d_json: str | Path | None = None, tag_style: str = "clean"
) -> NarrationTable:
    """Read Ego4D's narrations, videos and splits.

    Missing or empty passes, unsorted narrations and redacted videos are allowed. Dropped and counted in the table's
    `report`: narrations without text (`empty`), summaries (`summary`) and narrations whose time is negative, null or
    not a number (`bad_time`). Kept and counted: narrations after their video's end (`after_end`), videos without
    narrations (`without_narrations`), and videos missing in `ego4d_json` (`without_metadata`: no split, unknown
    duration). Videos of `ego4d_json` alone are counted (`only_metadata`) but not in the table.

    Args:
        narration_json: `{uid: {narration_pass_1: {narrations: [{timestamp_sec, narration_text}]}, status}}`. Read
            video by video: memory holds the columns and the distinct texts only.
        ego4d_json: `{videos: [{video_uid, duration_sec, split_em, split_fho, split_av}]}`. None: durations are unknown
            and no video has a split, so training cannot exclude the test videos.
        tag_style: style of the cleaned texts, one of `TAG_STYLES`.

    Raises:
        InputError: a file is missing, truncated or of another schema; the message names the video and the key. See
            also `json_members`.
    """
    if tag_style not in TAG_STYLES:
        raise InputError(f"tag_style={tag_style!r} is not one of {', '.join(TAG_STYLES)}")
    metadata = None if ego4d_json is None else read_ego4d_metadata(ego4d_json)
    columns = _Columns(Path(narration_json))
    for uid, video in json_members(narration_json):
        columns.add_video(uid, video)
    return columns.table(metadata, tag_style)


class _Columns:
    """Narrations read so far: 17 bytes each, and the distinct texts."""

    def __init__(self, path: Path):
        self.path = path
        self.redacted: dict[str, bool] = {}
        self.written: dict[str, int] = {}
        self.video, self.second = array("i"), array("d")
        self.passes, self.written_id = array("b"), array("i")
        self.bad_time = 0

    def add_video(self, uid: str, video: Any) -> None:
        if not isinstance(video, dict):
            raise self._wrong(uid, "", "a JSON object", video)
        if video and "status" not in video and not any(_PASS.fullmatch(key) for key in video):
            raise InputError(
                f"{self.path}: video {uid!r} has neither 'status' nor 'narration_pass_1', but "
                f"{', '.join(map(repr, list(video)[:5]))}. {_WRONG_FILE}"
            )
        index = len(self.redacted)
        self.redacted[uid] = video.get("status") == "redacted"
        for key, value in video.items():
            number = _PASS.fullmatch(key)
            if number and value is not None:
                if not isinstance(value, dict):
                    raise self._wrong(uid, key, "a JSON object", value)
                narrations = value.get("narrations")
                if not isinstance(narrations, list | None):
                    raise self._wrong(uid, f"{key}.narrations", "a list", narrations)
                self._add_pass(uid, index, int(number[1]), key, narrations or [])

    def _add_pass(self, uid: str, video: int, number: int, key: str, narrations: list[Any]) -> None:
        written = self.written
        for position, narration in enumerate(narrations):
            try:
                second, text = narration["timestamp_sec"], narration["narration_text"]
                second = math.nan if second is None else second
                text = "" if text is None else text
                if type(second) not in (int, float) or type(text) is not str:
                    raise TypeError
            except (KeyError, TypeError) as error:
                raise InputError(
                    f"{self.path}: {uid}.{key}.narrations[{position}] needs 'timestamp_sec' (a number) and "
                    f"'narration_text' (a string), but is {_shown.repr(narration)}. {_WRONG_FILE}"
                ) from error
            if not 0 <= second < math.inf:
                self.bad_time += 1
                continue
            self.video.append(video)
            self.second.append(second)
            self.passes.append(number)
            self.written_id.append(written.setdefault(text, len(written)))

    def _wrong(self, uid: str, key: str, expected: str, value: object) -> InputError:
        where = f"{uid}.{key}" if key else uid
        return InputError(f"{self.path}: {where} must be {expected}, but is {_shown.repr(value)}. {_WRONG_FILE}")

    def table(self, metadata: dict[str, VideoMetadata] | None, tag_style: str) -> NarrationTable:
        """Make the table: see `assemble`."""
        uids = list(self.redacted)
        table = assemble(
            videos=uids,
            redacted=np.array([self.redacted[uid] for uid in uids], dtype=bool),
            about=metadata or {},
            video=np.array(self.video, dtype=np.int32),
            second=np.array(self.second, dtype=np.float64),
            passes=np.array(self.passes, dtype=np.int8),
            written=list(self.written),
            written_id=np.array(self.written_id, dtype=np.int32),
            tag_style=tag_style,
        )
        table.report.update(
            {
                "videos": len(uids),
                "narrations": len(table),
                "written_texts": len(table.written),
                "texts": len(table.texts),
                "bad_time": self.bad_time,
                "after_end": int(np.count_nonzero(table.second > table.duration_s[table.video])),
                "redacted_videos": sum(self.redacted.values()),
                "without_narrations": len(uids) - len(np.unique(table.video)),
                "without_metadata": sum(uid not in (metadata or {}) for uid in uids),
                "only_metadata": len(set(metadata or ()) - self.redacted.keys()),
            }
        )
        _warn(self.path, metadata is not None, table.report)
        return table


def _warn(path: Path, has_metadata: bool, report: dict[str, int]) -> None:
    if not has_metadata:
        _log.warning("%s was read without ego4d.json: splits are unknown, so test videos cannot be excluded", path)
    elif report["without_metadata"]:
        _log.warning(
            "%d of %d videos of %s are not in ego4d.json: their splits and durations are unknown",
            report["without_metadata"],
            report["videos"],
            path,
        )
    if report["empty"] or report["bad_time"]:
        _log.warning(
            "%s: dropped %d narrations without text and %d whose time is negative, null or not a number",
            path,
            report["empty"],
            report["bad_time"],
        )


@dataclass(frozen=True)
class Ego4DVideo:
    """Duration of a video in seconds, NaN if unknown, and whether it is side-by-side stereo."""

    duration_s: float = math.nan
    stereo: bool = False


def read_videos(ego4d_json: str | Path) -> dict[str, Ego4DVideo]:
    """Read duration and stereo flag of the videos of `ego4d.json`, by id; for splits see `read_ego4d_metadata`.

    Raises:
        InputError: the file is missing or has another layout.
    """
    content = read_json(ego4d_json)
    try:
        return {
            str(entry["video_uid"]): Ego4DVideo(_seconds(entry.get("duration_sec")), bool(entry.get("is_stereo")))
            for entry in content["videos"]
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{ego4d_json} is not Ego4D's metadata ({type(error).__name__}: {error}): expected "
            '{"videos": [{"video_uid": ..., "duration_sec": ..., "is_stereo": ...}]}'
        ) from error


def _seconds(value: str | float | int | None) -> float:
    seconds = math.nan if value is None else float(value)
    return seconds if 0 <= seconds < math.inf else math.nan
