"""Clips of a table and the films that show them: videos, chunks or frames of videos, or a film of its own for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, isnan, nan
from pathlib import Path

from clep.datasets.clip_spans import SPAN_COLUMNS, clip_ids, first_rows, require_span_columns
from clep.datasets.user_table import UserTable, read_user_table
from clep.extraction.listing import find_videos
from clep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES


@dataclass(frozen=True)
class ClipFilm:
    """Where a clip is to be seen.

    Attributes:
        id: of the clip.
        path: file or folder of its video, or the film of this clip alone.
        start, end: of the clip in it, as in the table; NaN for the whole film.
    """

    id: str
    path: Path
    start: float
    end: float


def find_clips(
    table: str | Path, columns: Mapping[str, str | None] | None, videos: str | Path
) -> tuple[list[ClipFilm], dict[str, str]]:
    """Find the film of each clip of a table.

    A clip is a span of its video, which is a file, a folder of chunks or a folder of frames (see `find_videos`). Where
    the video is missing, or the table has no spans, it is a film that is called by the clip, as in EGTEA Gaze+'s
    folders of trimmed clips, `<video>/<clip>.mp4`.

    Args:
        table: csv, tsv, parquet or jsonl with the columns `clip`, or `video`, `start` and `end`, or all four; a clip
            without an id is called `<video>_<start>_<end>` in milliseconds.
        columns: names of these columns in the table where they differ.
        videos: folder of the films, searched with its subfolders.

    Returns:
        The clips that have a film, and the reason for each other clip.

    Raises:
        InputError: the table cannot be read, a column is missing, a cell is empty or no time, a clip has two spans, or
            the folder does not exist.
    """
    clips = _read_clips(read_user_table(table, SPAN_COLUMNS, columns, "columns"))
    names = sorted({video for _, video, start, _ in clips if not isnan(start)})
    found = {name: path for name, path in find_videos(videos, names).items() if not _holds_clips(path)}
    lacking = {clip for clip, video, start, _ in clips if isnan(start) or video not in found} - set(names)
    # The names of the folders are given again, so that chunks and frames in them are not taken for clips.
    folders = [name for name, path in found.items() if path.is_dir()] if lacking else []
    own = find_videos(videos, [*sorted(lacking), *folders]) if lacking else {}
    films: list[ClipFilm] = []
    skipped: dict[str, str] = {}
    for clip, video, start, end in clips:
        if not isnan(start) and not (isfinite(end) and 0 <= start <= end):
            skipped[clip] = f"its span is from {start:g} to {end:g}"
        elif not isnan(start) and video in found:
            films.append(ClipFilm(clip, found[video], start, end))
        elif clip in lacking and clip in own and not own[clip].is_dir():
            films.append(ClipFilm(clip, own[clip], nan, nan))
        else:
            either = clip if video == clip else f"{video} or {clip}"
            skipped[clip] = f"no video {either} in {Path(videos).name}"
    return films, skipped


def _read_clips(table: UserTable) -> list[tuple[str, str, float, float]]:
    """Return id, video, start and end of each clip, once; start and end are NaN in a table without spans."""
    if not require_span_columns(table):
        return [(name, name, nan, nan) for name in dict.fromkeys(table.filled("clip").to_list())]
    videos = table.filled("video").to_list()
    start, end = (table.seconds(name, negative=True).tolist() for name in ("start", "end"))
    spans = list(zip(videos, start, end, strict=True))
    first = first_rows(table, clip_ids(table, spans), spans)
    return [(name, *spans[row]) for name, row in first.items()]


def _holds_clips(path: Path) -> bool:
    """Return whether a folder that is called by a video holds films of its clips, and not its chunks or its frames."""
    if not path.is_dir():
        return False
    for file in path.iterdir():
        if file.suffix.lower() in IMAGE_SUFFIXES or (file.suffix.lower() in VIDEO_SUFFIXES and file.stem.isdigit()):
            return False
        if file.suffix.lower() in VIDEO_SUFFIXES:
            return True
    return False
