"""Ego4D's narration.json and ego4d.json, read into columns."""

import logging
import math
import re
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from clep.errors import InputError
from clep.text.assemble import assemble
from clep.text.ego4d_metadata import VideoMetadata, read_ego4d_metadata
from clep.text.json_members import json_members
from clep.text.table import NarrationTable
from clep.text.tags import TAG_STYLES

_log = logging.getLogger(__name__)
_PASS = re.compile(r"narration_pass_([1-9]\d?)")
_WRONG_FILE = "Check that it is Ego4D's narration.json, and fetch it again if it is"


def read_ego4d(narration_json: str | Path, ego4d_json: str | Path | None = None, tags: str = "clean") -> NarrationTable:
    """Read Ego4D's narrations, videos and splits.

    A missing or empty pass, narrations out of order and redacted videos are in order. Left out and counted in the
    table's `report`: narrations without text (`empty`) and those whose time is negative, null or not a number
    (`bad_time`). Counted only: narrations after their video's end (`after_end`), videos without narrations
    (`without_narrations`), videos that `ego4d_json` lacks (`without_metadata`: no split, unknown duration) and
    those that only it has (`only_metadata`: not in the table).

    Args:
        narration_json: `{uid: {narration_pass_1: {narrations: [{timestamp_sec, narration_text}]}, status}}`. Read
            video by video, so that memory is that of the columns and the distinct texts.
        ego4d_json: `{videos: [{video_uid, duration_sec, split_em, split_fho, split_av}]}`. None: all durations are
            unknown and no video has a split, so that training cannot leave out the test videos.
        tags: style of the cleaned texts, one of `TAG_STYLES`.

    Raises:
        InputError: a file is missing, cut off or of another schema, named with the video and the key.
    """
    if tags not in TAG_STYLES:
        raise InputError(f"tags={tags!r} is not one of {', '.join(TAG_STYLES)}")
    metadata = None if ego4d_json is None else read_ego4d_metadata(ego4d_json)
    columns = _Columns(Path(narration_json))
    for uid, video in json_members(narration_json):
        columns.add_video(uid, video)
    return columns.table(metadata, tags)


class _Columns:
    """The narrations met so far: 21 bytes each, and their distinct texts."""

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
        if uid in self.redacted:
            raise InputError(f"{self.path} has the video {uid!r} twice. {_WRONG_FILE}")
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
                    f"'narration_text' (a string), but is {str(narration)[:200]}. {_WRONG_FILE}"
                ) from error
            if not 0 <= second < math.inf:
                self.bad_time += 1
                continue
            self.video.append(video)
            self.second.append(second)
            self.passes.append(number)
            self.written_id.append(written.setdefault(text, len(written)))

    def _wrong(self, uid: str, key: str, expected: str, value: object) -> InputError:
        place = f"{uid}.{key}" if key else uid
        return InputError(f"{self.path}: {place} should be {expected}, but is {str(value)[:100]}. {_WRONG_FILE}")

    def table(self, metadata: dict[str, VideoMetadata] | None, tags: str) -> NarrationTable:
        """Sort by video and second, leave out empty texts, number texts by their first use."""
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
            tags=tags,
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
        _log.warning("%s was read without ego4d.json: no video has a split, so none can be held out by it", path)
    elif report["without_metadata"]:
        _log.warning(
            "%d of %d videos of %s are not in ego4d.json: their splits and durations are unknown",
            report["without_metadata"],
            report["videos"],
            path,
        )
    if report["empty"] or report["bad_time"]:
        _log.warning(
            "%s: left out %d narrations without text and %d whose time is negative, null or not a number",
            path,
            report["empty"],
            report["bad_time"],
        )
