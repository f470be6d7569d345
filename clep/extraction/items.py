"""Which videos are to be encoded: ids, files, sizes and lengths."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import nan
from pathlib import Path

from clep.compute import cut_into_shards
from clep.errors import InputError
from clep.video import expected_seconds

_LONGEST_NAME = 200
_PROBES = 16
_ENDS_BYTES = 4096
_IMAGE_S = 0.02


@dataclass(frozen=True)
class VideoItem:
    """One video to be encoded.

    Attributes:
        id: what the bank calls it.
        path: its file.
        left_eye: it is a stereo film, side by side, of which the left half is taken.
        image: the file is an image, a video of one frame.
        duration_s: its length where that is known; NaN otherwise.
        file: fingerprint of the file, once somebody has taken it; it is taken before the file is decoded, so that a
            file that is replaced meanwhile is noticed by the next run.
    """

    id: str
    path: str
    left_eye: bool = False
    image: bool = False
    duration_s: float | int = nan
    file: str = ""

    def fingerprint(self) -> str:
        """Digest size, beginning and end of the file, and which half is taken; "" where there is no file to read.

        Copies of a file have the same one, whatever their dates.
        """
        try:
            with Path(self.path).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                digest = blake2b(file.read(_ENDS_BYTES), digest_size=8)
                file.seek(max(0, size - _ENDS_BYTES))
                digest.update(file.read(_ENDS_BYTES))
        except OSError:
            return ""
        return f"{size}-{digest.hexdigest()}{'-left' if self.left_eye else ''}"


def chosen(items: Sequence[VideoItem], ids: Sequence[str] | str | None, limit: int | None) -> list[VideoItem]:
    """Return the items that `ids` names and of these the first `limit`.

    Args:
        ids: a list, or the path of a text file with one id a line; None takes all.
        limit: None takes all.

    Raises:
        InputError: an id that is not among the items, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} must be at least 1")
    wanted = list(items)
    if ids is not None:
        names = _lines(ids) if isinstance(ids, str) else [str(name) for name in ids]
        unknown = sorted(set(names) - {item.id for item in items})
        if unknown:
            raise InputError(f"ids: {len(unknown)} are not among the {len(items)} videos, first {unknown[0]!r}")
        wanted = [item for item in items if item.id in set(names)]
    return wanted[:limit]


def parse_part(part: str | None) -> tuple[int, int] | None:
    """Read `shard=i/n`, counted from 0, as (i, n).

    Raises:
        InputError: it is not two such numbers.
    """
    if part is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if not found or int(found[1]) >= int(found[2]):
        raise InputError(f"shard={part!r} must be i/n with i from 0 to n - 1, e.g. shard=0/4")
    return int(found[1]), int(found[2])


def part_of(items: Sequence[VideoItem], part: tuple[int, int]) -> list[VideoItem]:
    """Return the items of part i of n; it depends on all items, not on which are done, so machines agree about it."""
    index, count = part
    by_id = {item.id: item for item in items}
    shards = cut_into_shards({item.id: item.duration_s for item in items}, count)
    return [by_id[name] for name in shards[index]] if index < len(shards) else []


def with_durations(items: Sequence[VideoItem]) -> list[VideoItem]:
    """Fill in lengths that are not known, from the files' headers; NaN stays where that fails.

    An image gets what it costs beside a second of video.
    """

    def filled(item: VideoItem) -> VideoItem:
        if item.duration_s == item.duration_s:
            return item
        return replace(item, duration_s=_IMAGE_S if item.image else expected_seconds(item.path))

    with ThreadPoolExecutor(_PROBES) as threads:
        return list(threads.map(filled, items))


def first_of_each(items: Iterable[VideoItem]) -> tuple[list[VideoItem], dict[str, str]]:
    """Return the first item of each id, sorted by id; and for ids that came again, the files that are left out."""
    kept: dict[str, VideoItem] = {}
    again: dict[str, str] = {}
    for item in items:
        if item.id not in kept:
            kept[item.id] = item
        else:
            again[item.id] = f"{again[item.id]}, {item.path}" if item.id in again else item.path
    reasons = {name: f"also named so and left out: {paths}; {kept[name].path} is used" for name, paths in again.items()}
    return [kept[name] for name in sorted(kept)], reasons


def fingerprints(items: Sequence[VideoItem]) -> dict[str, str]:
    """Return the fingerprint of each item's file by its id; files are read by several threads."""
    with ThreadPoolExecutor(_PROBES) as threads:
        return dict(zip([item.id for item in items], threads.map(lambda item: item.fingerprint(), items), strict=True))


def file_name(video: str) -> str:
    """Return a file name for a video that stays inside its folder whatever the id: `/`, `..`, control characters.

    Characters that a file name cannot hold are written as `%` and two hexadecimal digits a byte; an id that is too
    long is cut and marked with its digest.
    """
    written = re.sub(r'[%/\\:*?"<>|\x00-\x1f\x7f]', lambda found: f"%{ord(found[0]):02X}", video)
    written = "%2E" + written[1:] if written.startswith(".") else written
    raw = written.encode()
    if len(raw) <= _LONGEST_NAME:
        return written
    digest = blake2b(video.encode(), digest_size=8).hexdigest()
    return raw[: _LONGEST_NAME - 17].decode(errors="ignore") + "-" + digest


def _lines(path: str) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"ids={path!r} is not a readable text file of ids ({error}); for a list write ids=[a,b]"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]
