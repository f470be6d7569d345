"""Ego4D at its true counts: narrations, metadata and a bank of rows, written in blocks rather than item by item."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64

from clep.bank import BankWriter, Clock
from clep.demo.annotation_files import random_uid, video_metadata, write_ego4d_json
from clep.demo.encoder import FPS, random_of
from clep.demo.synthetic import SyntheticDataset
from clep.errors import InputError
from clep.files import atomic_path
from clep.progress import progress_bar

VIDEOS, NARRATIONS, ROWS = 9_645, 3_850_000, 24_800_000
"""Counts of Ego4D: narrated videos, narrations, and rows of its released features (3,670 hours)."""
ENCODER = "synthetic-ego4d"
"""Name of the encoder in the bank: `video_encoder=synthetic-ego4d`."""

_AT_ONCE = 400_000  # narrations of a block, about 80 MB of JSON
_JSON_BYTES, _VIDEO_BYTES = 240, 3_000  # upper bounds for a narration and for a video's metadata
_SUBJECTS = ("#C C", "#C C", "#O A man X", "#C C", "#O A woman Y")
_VERBS = (
    *("picks", "drops", "holds", "moves", "lifts", "opens", "closes", "cuts", "washes", "wipes", "turns", "pulls"),
    *("pushes", "places", "carries", "adjusts", "folds", "stirs", "pours", "shakes", "cleans", "touches", "rotates"),
    *("passes", "removes", "fixes", "presses", "rubs", "throws", "takes", "puts", "ties", "paints", "drills"),
    *("hammers", "sweeps", "scoops", "peels", "rolls", "hangs"),
)
_KINDS = ("", "small ", "large ", "red ", "blue ", "wooden ", "metal ", "plastic ", "wet ", "piece of ", "pair of old ")
_THINGS = (
    *("cup", "plate", "knife", "cloth", "box", "bottle", "bag", "pan", "spoon", "door", "drawer", "phone", "paper"),
    *("brush", "rope", "wire", "board", "nail", "screw", "bucket", "bowl", "lid", "pot", "chair", "table", "dough"),
    *("plant", "stone", "pipe", "tyre"),
)
_PREPOSITIONS = (" from the ", " on the ", " into the ", " beside the ", " towards the ", " with the ")
_ENDS = (
    "",
    " with his left hand",
    " with both hands",
    " slowly",
    " again",
    ", and looks around",
    " while she talks to a person",
    " and then walks to the other side of the room",
)
_SIMPLE = len(_VERBS) * len(_THINGS)
_TAILS = ("", *(f"{where}{kind}{thing}" for where in _PREPOSITIONS for kind in _KINDS for thing in _THINGS))
_SENTENCES = len(_VERBS) * len(_KINDS) * len(_THINGS) * (len(_TAILS) - 1) * len(_ENDS)
_STRIDE = 1_000_003  # a prime that divides no list's length, so that its multiples reach each sentence once


@dataclass(frozen=True)
class SyntheticEgo4D(SyntheticDataset):
    """Ego4D's counts with random rows, for measurements at full size; nothing can be learned from it.

    `ego4d/narration.json` and `ego4d/ego4d.json` have the official formats, `clep/ego4d_features.h5` is a bank, so
    `paths.data=FOLDER` trains on it. Texts repeat as often as a text of rank r does in a 1/r distribution. Rows are
    noise around a mean for each video. At `fraction=1` and `dim=256` it takes 14 GB of disk.

    Raises:
        InputError: a setting is out of range; `make`: the disk has too little free space.
    """

    format: ClassVar[str] = "clep-full-size"
    folders: ClassVar[tuple[str, ...]] = ("ego4d", "clep")

    fraction: float | int = 0.01
    """Share of the videos, narrations and rows of Ego4D."""
    dim: int = 256
    """Feature dimension."""
    distinct_texts: float | int = 0.5
    """Distinct texts as a share of the narrations."""

    def check(self) -> None:
        """Check the settings."""
        for name in ("fraction", "distinct_texts"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(
                    f"SyntheticEgo4D: {name} must be above 0 and at most 1, not {getattr(self, name)}; e.g. 0.01"
                )
        self._check_range("dim", 1, 2**16)

    @property
    def counts(self) -> dict[str, int]:
        """Videos, narrations, distinct texts and rows."""
        videos, narrations, rows = (max(2, round(self.fraction * count)) for count in (VIDEOS, NARRATIONS, ROWS))
        distinct = max(1, round(self.distinct_texts * narrations))
        return {"videos": videos, "narrations": narrations, "distinct_texts": distinct, "rows": rows}

    @property
    def bytes_on_disk(self) -> int:
        """Upper bound of the bytes that `make` writes."""
        counts = self.counts
        features = 2 * self.dim * counts["rows"]
        return (
            features + features // 1000 + _JSON_BYTES * counts["narrations"] + _VIDEO_BYTES * counts["videos"] + 2**20
        )

    def generate(self, folder: Path, seed: int, progress: bool) -> dict[str, Any]:
        """Write ego4d/{narration.json, ego4d.json} and clep/ego4d_features.h5 and return their counts."""
        check_space(folder, self.bytes_on_disk, "the synthetic Ego4D")
        counts, rng = self.counts, random_of(seed, "full size")
        uids = sorted(random_uid(rng) for _ in range(counts["videos"]))
        rows = apportion(rng.lognormal(0, 0.8, len(uids)), counts["rows"])
        clock = Clock()
        duration_s = np.round(clock.row_seconds + (rows - 1) / clock.rows_per_second + 0.1, 3)
        narrated = apportion(rows * rng.lognormal(0, 0.5, len(uids)), counts["narrations"])
        paths = {name: folder / name for name in ("ego4d/ego4d.json", "ego4d/narration.json", "clep/ego4d_features.h5")}
        if not paths["ego4d/ego4d.json"].exists():
            videos = zip(uids, duration_s.tolist(), strict=True)
            write_ego4d_json(paths["ego4d/ego4d.json"], [video_metadata(*video, i) for i, video in enumerate(videos)])
        if not paths["ego4d/narration.json"].exists():
            self._write_narrations(paths["ego4d/narration.json"], uids, duration_s, narrated, seed, progress)
        if not paths["clep/ego4d_features.h5"].exists():
            self._write_rows(paths["clep/ego4d_features.h5"], uids, duration_s, rows, seed, progress)
        return counts | {"hours": round(float(duration_s.sum()) / 3600, 2)}

    def _write_narrations(
        self,
        path: Path,
        uids: Sequence[str],
        duration_s: Float64[np.ndarray, " videos"],
        narrated: Int64[np.ndarray, " videos"],
        seed: int,
        progress: bool,
    ) -> None:
        counts, rng = self.counts, random_of(seed, "narrations")
        texts = sentences(counts["distinct_texts"])
        rank = text_ranks(rng, counts["narrations"], counts["distinct_texts"])
        last = np.cumsum(narrated)
        with (
            atomic_path(path) as temporary,
            temporary.open("wb") as file,
            progress_bar("narrations", len(uids), progress) as step,
        ):
            file.write(b"{")
            for videos in _blocks(last):
                video = np.repeat(np.arange(videos.start, videos.stop), narrated[videos.start : videos.stop])
                ms = (rng.random(len(video)) * duration_s[video] * 1000).astype(np.int64)
                number = (rng.random(len(video)) < 0.5).astype(np.int64)
                order = np.lexsort((ms, number, video))
                block = rank[last[videos.start] - narrated[videos.start] :][: len(video)]
                written = _json_narrations(rng, ms[order], texts.take(pa.array(block)))
                of_passes = np.bincount(2 * (video - videos.start) + number, minlength=2 * len(videos))
                bounds = np.concatenate([[0], np.cumsum(of_passes)])
                _write_videos(file, uids, videos, bounds, written)
                step(len(videos))
            file.write(b"\n}\n")

    def _write_rows(
        self,
        path: Path,
        uids: Sequence[str],
        duration_s: Float64[np.ndarray, " videos"],
        rows: Int64[np.ndarray, " videos"],
        seed: int,
        progress: bool,
    ) -> None:
        rng = random_of(seed, "rows")
        with (
            BankWriter(path, self.dim, Clock(), "float16", ENCODER, n_rows=int(rows.sum())) as writer,
            progress_bar("rows", len(uids), progress) as step,
        ):
            for uid, seconds, count in zip(uids, duration_s.tolist(), rows.tolist(), strict=True):
                block = rng.standard_normal((count, self.dim), dtype=np.float32)
                block += rng.standard_normal(self.dim, dtype=np.float32)
                writer.add(uid, block.astype(np.float16), duration_s=seconds)
                step(1)


def check_space(folder: Path, needed: int, what: str) -> None:
    """Check that a disk has room for `needed` bytes and a reserve of 5 %.

    Raises:
        InputError: it has not; the message has both figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 1.05 * needed:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB of free disk space, but {what} needs {1.05 * needed / 1e9:.1f} GB; "
            f"choose another disk or a smaller fraction"
        )


def apportion(weights: Float64[np.ndarray, " parts"], total: int) -> Int64[np.ndarray, " parts"]:
    """Split `total` in proportion to the weights, at least 1 each, by largest remainders."""
    exact = weights / weights.sum() * (total - len(weights))
    parts = exact.astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: total - len(weights) - int(parts.sum())]] += 1
    return parts + 1


def text_ranks(rng: np.random.Generator, narrations: int, distinct: int) -> Int64[np.ndarray, " narrations"]:
    """Draw a text for each narration: every text at least once, the others in proportion to 1/rank."""
    more = np.exp(rng.random(narrations - distinct) * np.log(distinct + 1)).astype(np.int64) - 1
    ranks = np.concatenate([np.arange(distinct), np.minimum(more, distinct - 1)])
    return rng.permutation(ranks)


def sentences(count: int) -> pa.LargeStringArray:
    """Return `count` distinct narrations as an annotator writes them, the frequent ones short: 5 to 28 words.

    Raises:
        InputError: more sentences than there are.
    """
    if count > _SENTENCES:
        raise InputError(f"there are {_SENTENCES:,} distinct sentences, not {count:,}; lower distinct_texts")
    rank = np.arange(count)
    # The first are all pairs of a verb and a thing, without a tail; all others have one.
    simple, index = rank < _SIMPLE, rank * _STRIDE % _SENTENCES
    index, verb = np.divmod(index, len(_VERBS))
    index, kind = np.divmod(index, len(_KINDS))
    index, thing = np.divmod(index, len(_THINGS))
    end, tail = np.divmod(index, len(_TAILS) - 1)
    return _joined(
        _take(_SUBJECTS, np.where(simple, 0, rank % len(_SUBJECTS))),
        " ",
        _take(_VERBS, np.where(simple, rank % len(_VERBS), verb)),
        " the ",
        _take(_KINDS, np.where(simple, 0, kind)),
        _take(_THINGS, np.where(simple, rank // len(_VERBS) % len(_THINGS), thing)),
        _take(_TAILS, np.where(simple, 0, tail + 1)),
        _take(_ENDS, np.where(simple, 0, end)),
    )


def _take(choices: Sequence[str], index: Int64[np.ndarray, " rows"]) -> pa.LargeStringArray:
    return pa.array(choices, pa.large_string()).take(pa.array(index))


def _joined(*parts: pa.LargeStringArray | str) -> pa.LargeStringArray:
    parts = tuple(pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in parts)
    return pc.binary_join_element_wise(*parts, pa.scalar("", pa.large_string()))


def _blocks(last: Int64[np.ndarray, " videos"]) -> Iterator[range]:
    """Cut the videos into ranges of about `_AT_ONCE` narrations; `last` is the running sum of their narrations."""
    first = 0
    while first < len(last):
        before = int(last[first - 1]) if first else 0
        stop = max(first + 1, int(np.searchsorted(last, before + _AT_ONCE, side="right")))
        yield range(first, stop)
        first = stop


def _json_narrations(
    rng: np.random.Generator, ms: Int64[np.ndarray, " rows"], texts: pa.LargeStringArray
) -> pa.LargeStringArray:
    """Return the JSON object of each narration, with a comma behind it."""
    seconds = pc.cast(pa.array(ms / 1000), pa.large_string())
    frames = pc.cast(pa.array(ms * FPS // 1000), pa.large_string())
    digits = np.frombuffer(rng.bytes(16 * len(ms)).hex().encode(), np.uint8).reshape(-1, 32)
    uids = np.insert(digits, (8, 12, 16, 20), ord("-"), axis=1)
    offsets = pa.py_buffer(36 * np.arange(len(ms) + 1, dtype=np.int64))
    uid = pa.LargeStringArray.from_buffers(len(ms), offsets, pa.py_buffer(np.ascontiguousarray(uids)))
    return _joined(
        *('{"timestamp_sec": ', seconds, ', "timestamp_frame": ', frames, ', "_unmapped_timestamp_sec": ', seconds),
        *(', "narration_text": "', texts, '", "annotation_uid": "', uid, '"},'),
    )


def _write_videos(
    file: BinaryIO,
    uids: Sequence[str],
    videos: range,
    bounds: Int64[np.ndarray, " bounds"],
    written: pa.LargeStringArray,
) -> None:
    """Write the entries of some videos, whose two passes have the narrations between consecutive `bounds`."""
    _, offsets, content = written.buffers()
    data, at = memoryview(content), np.frombuffer(offsets, np.int64)[bounds].tolist()
    for position, index in enumerate(videos):
        file.write(f'{"," if index else ""}\n"{uids[index]}":{{"status": "complete"'.encode())
        for number in (0, 1):
            first, stop = at[2 * position + number], at[2 * position + number + 1]
            file.write(f', "narration_pass_{number + 1}": {{"narrations": ['.encode())
            file.write(data[first : max(first, stop - 1)])
            file.write(b'], "summaries": []}')
        file.write(b"}")
