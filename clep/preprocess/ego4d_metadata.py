"""What the jobs about Ego4D's videos read of its ego4d.json: which there are, how long, and which are stereo."""

from dataclasses import dataclass
from math import nan
from pathlib import Path

from clep.errors import InputError
from clep.files import read_json


@dataclass(frozen=True)
class Ego4DVideo:
    """One video: its seconds, NaN where unknown, and whether it is a stereo film, side by side."""

    duration_s: float = nan
    stereo: bool = False


def read_videos(ego4d_json: str | Path) -> dict[str, Ego4DVideo]:
    """Read the videos of `ego4d.json` by id. Splits are not looked at, unlike by `clep.text`, which trains by them.

    Raises:
        InputError: the file is missing or has another layout.
    """
    content = read_json(ego4d_json)
    try:
        return {
            str(entry["video_uid"]): Ego4DVideo(_seconds(entry.get("duration_sec")), bool(entry.get("is_stereo")))
            for entry in content["videos"]
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{ego4d_json} is not Ego4D's metadata ({type(error).__name__}: {error}): expected "
            '{"videos": [{"video_uid": ..., "duration_sec": ..., "is_stereo": ...}]}'
        ) from error


def _seconds(value: str | float | int | None) -> float:
    seconds = nan if value is None else float(value)
    return seconds if 0 <= seconds < float("inf") else nan
