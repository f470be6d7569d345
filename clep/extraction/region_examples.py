"""What is known of each row of a region bank, for the file beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clep.bank import FeatureBank
from clep.data.regions import Regions
from clep.errors import InputError
from clep.extraction import ledger_path, read_ledger
from clep.extraction.region_boxes import VideoBoxes


def describe_rows(bank_path: Path, regions_path: Path, boxes: Mapping[str, VideoBoxes]) -> Regions:
    """Return the regions of a bank, row by row.

    A video that the bank has and the files of boxes no longer name, or name with other boxes, keeps what the regions
    file of an earlier run said of it.

    Args:
        bank_path: that the extraction left, with its ledger beside it.
        regions_path: of an earlier run, there or not.
        boxes: of each video, as read now.

    Raises:
        InputError: nothing says what the rows of a video are.
    """
    bank = FeatureBank.open(bank_path)
    made_of = {entry.id: entry.file.rpartition("-boxes")[2] for entry in read_ledger(ledger_path(bank_path))}
    parts: list[tuple[VideoBoxes, str]] = []
    earlier: dict[str, tuple[VideoBoxes, str]] | None = None
    for video in bank.videos:
        known = boxes.get(video)
        if known is not None and known.digest() == made_of.get(video):
            parts.append((_kept(known, bank, video), known.digest()))
            continue
        earlier = _earlier(regions_path) if earlier is None else earlier
        if video not in earlier or earlier[video][1] != made_of.get(video):
            raise InputError(
                f"{bank_path} has rows of video {video!r} that were made of other boxes than those given now, and "
                f"{regions_path} does not tell which; run again with overwrite=true"
            )
        parts.append(earlier[video])
    return _joined(bank.videos, parts)


def _kept(boxes: VideoBoxes, bank: FeatureBank, video: str) -> VideoBoxes:
    """Leave out the boxes at whose second there was no frame: they have no row."""
    seconds = bank.video_seconds(video)
    assert seconds is not None
    rows = np.flatnonzero(np.isin(boxes.second, seconds.cpu().numpy()))
    if len(rows) != len(seconds):
        raise InputError(f"{bank.path} has {len(seconds)} rows of video {video!r} for {len(rows)} boxes; make it again")
    return _rows_of(boxes, rows)


def _rows_of(boxes: VideoBoxes, rows: np.ndarray) -> VideoBoxes:
    return VideoBoxes(
        boxes.second[rows],
        boxes.box[rows],
        boxes.score[rows],
        boxes.person[rows],
        boxes.annotated[rows],
        tuple(boxes.actions[row] for row in rows.tolist()),
    )


def _earlier(path: Path) -> dict[str, tuple[VideoBoxes, str]]:
    try:
        regions = Regions.open(path)
    except InputError:
        return {}
    bounds = np.searchsorted(regions.video, np.arange(len(regions.videos) + 1)).tolist()
    actions = [
        tuple(regions.action[start:end].tolist())
        for start, end in zip(regions.first_action, regions.first_action[1:], strict=False)
    ]
    found = {}
    for video, digest, start, end in zip(regions.videos, regions.boxes_digest, bounds, bounds[1:], strict=False):
        own = slice(start, end)
        found[video] = (
            VideoBoxes(
                regions.second[own],
                regions.box[own],
                regions.score[own],
                regions.person[own],
                regions.annotated[own],
                tuple(actions[own]),
            ),
            digest,
        )
    return found


def _joined(videos: Sequence[str], parts: Sequence[tuple[VideoBoxes, str]]) -> Regions:
    boxes = [part for part, _ in parts]
    actions = [ids for part in boxes for ids in part.actions]
    return Regions(
        videos=tuple(videos),
        boxes_digest=tuple(digest for _, digest in parts),
        video=np.repeat(np.arange(len(boxes), dtype=np.int32), [len(part.second) for part in boxes]),
        second=np.concatenate([part.second for part in boxes]),
        box=np.concatenate([part.box for part in boxes]),
        score=np.concatenate([part.score for part in boxes]),
        person=np.concatenate([part.person for part in boxes]),
        annotated=np.concatenate([part.annotated for part in boxes]),
        first_action=np.cumsum([0, *(len(ids) for ids in actions)], dtype=np.int64),
        action=np.array([action for ids in actions for action in ids], np.int32),
    )
