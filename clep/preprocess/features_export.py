"""Job: a feature bank → one file a video or clip, as code for Ego4D's NLQ and MQ reads them."""

import importlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32

from clep.bank import FeatureBank
from clep.datasets.clip_spans import ClipSpans
from clep.errors import InputError
from clep.files import atomic_path, flush_files, write_json
from clep.preprocess.job import Job, given_paths
from clep.tables import parse_numbers, read_table, refuse_empty

logger = logging.getLogger(__name__)

Features = Float32[np.ndarray, "rows dim"]


@dataclass(frozen=True, kw_only=True)
class FeaturesExport(Job, job="features_export"):
    """A feature bank → one file of features per video or clip (npy, pt, or one lmdb), with rate and dimension in JSON.

    Attributes:
        bank: the feature bank.
        output: folder for `<id>.npy` or `<id>.pt` files, or for the LMDB `features.lmdb`; and for features.json, which
            has rows a second, seconds of a row, dimension, encoder, and the rows and seconds of each id.
        format: "npy" and "pt" are float32 arrays [rows, dim] (NLQ's and MQ's baselines read pt); "lmdb" has an id for a
            key and as its value an npz with the array `features`.
        clips: csv with the columns clip, video, start and end (seconds): the rows of each clip are written under its
            id. null: all rows of each video.
        overwrite: write everything again.
    """

    bank: str | Path = "${paths.out}/ego4d_features.h5"
    output: str | Path = "${paths.out}/exported"
    format: Literal["npy", "pt", "lmdb"] = "npy"
    clips: str | Path | None = None
    overwrite: bool = False

    def inputs(self) -> list[Path]:
        """Return the bank and the list of clips."""
        return given_paths(self.bank, self.clips)

    def outputs(self) -> list[Path]:
        """Return the description, which is written last."""
        return [Path(self.output) / "features.json"]

    def run(self) -> dict[str, Any]:
        """Return counts of ids and rows, and the clips whose video the bank lacks.

        Raises:
            InputError: the bank or the csv cannot be read, no clip is in the bank, an id cannot be a file name, the
                package lmdb is not installed, or the disk is full.
        """
        folder, bank = Path(self.output), FeatureBank.open(self.bank)
        if bank.clock is None:
            raise InputError(f"{self.bank} is a bank of texts; give a bank of video features")
        about = folder / "features.json"
        if about.exists() and not self.overwrite:
            logger.info("%s exists; overwrite=true writes it again", about)
            return {"up_to_date": True}
        spans, missing = self._spans(bank)
        described: dict[str, dict[str, float | int | None]] = {}

        def noted() -> Iterator[tuple[str, Features]]:
            for name, rows, start_s, seconds in spans:
                described[name] = {"rows": len(rows), "start_s": start_s, "duration_s": seconds}
                yield name, rows

        if self.format == "lmdb":
            _write_lmdb(folder / "features.lmdb", noted(), bank)
        else:
            self._write_files(noted())
            flush_files(folder / f"{name}.{self.format}" for name in described)
        clock = bank.clock
        content = {
            "format": self.format,
            "rows_per_second": clock.rows_per_second,
            "row_seconds": clock.row_seconds,
            "dim": bank.dim,
            "encoder": bank.encoder,
            "features": described,
        }
        write_json(about, content)
        rows = sum(int(one["rows"] or 0) for one in described.values())
        logger.info("%s: %s features, %s rows, %d missing", folder, f"{len(described):,}", f"{rows:,}", len(missing))
        return {"counts": {"features": len(described), "rows": rows}, "lists": {"clips_without_video": missing}}

    def _spans(self, bank: FeatureBank) -> tuple[Iterator[tuple[str, Features, float, float | None]], list[str]]:
        """Return id, rows, first second and seconds of each video or clip, and the clips that the bank lacks."""
        if self.clips is None:
            ends = bank.duration_s.tolist()
            whole = (
                (uid, bank.video_rows(uid).numpy(), 0.0, None if np.isnan(end) else end)
                for uid, end in zip(bank.videos, ends, strict=True)
            )
            return whole, []
        clips = read_spans(self.clips)
        video = bank.index(clips.videos)
        kept = torch.nonzero(video >= 0).squeeze(1)
        missing = [clips.ids[i] for i in torch.nonzero(video < 0).squeeze(1).tolist()]
        if not len(kept):
            raise InputError(f"{self.bank} has the video of none of the {len(clips)} clips of {self.clips}")
        start_s, end_s = clips.start_s[kept.numpy()], clips.end_s[kept.numpy()]
        first, last = (side.tolist() for side in bank.window(video[kept], start_s, end_s))
        parts = (
            (clips.ids[i], bank.take(torch.arange(a, b)).numpy(), float(start), float(end - start))
            for i, a, b, start, end in zip(kept.tolist(), first, last, start_s, end_s, strict=True)
        )
        return parts, missing

    def _write_files(self, features: Iterator[tuple[str, Features]]) -> None:
        for name, rows in features:
            if "/" in name or name in (".", ".."):
                raise InputError(f"the id {name!r} of {self.bank} cannot be the name of a file; use format=lmdb")
            path = Path(self.output) / f"{name}.{self.format}"
            with atomic_path(path, durable=False) as temporary, temporary.open("wb") as file:
                if self.format == "npy":
                    np.save(file, rows)
                else:
                    torch.save(torch.from_numpy(rows), file)


def read_spans(path: str | Path) -> ClipSpans:
    """Read a csv of clips: `clip,video,start,end`.

    Raises:
        InputError: the file is missing, lacks a column, or has a wrong cell; the message names the line.
    """
    table = read_table(path, ("clip", "video", "start", "end"))
    for column in ("clip", "video"):
        refuse_empty(table[column], path)
    start_s, end_s = (parse_numbers(table[name], path) for name in ("start", "end"))
    try:
        return ClipSpans(table["clip"].tolist(), table["video"].tolist(), start_s, end_s)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _write_lmdb(path: Path, features: Iterator[tuple[str, Features]], bank: FeatureBank) -> None:
    try:
        lmdb: Any = importlib.import_module("lmdb")
    except ImportError as error:
        raise InputError("format=lmdb needs the package lmdb: `pip install 'clep[lmdb]'`") from error
    # Clips may overlap, and short values take a page each; the file itself has only what is written.
    options = {"subdir": False, "lock": False, "map_size": 32 * bank.n_rows * bank.dim + (1 << 30)}
    with atomic_path(path) as temporary, lmdb.open(str(temporary), **options) as environment:
        for name, rows in features:
            content = io.BytesIO()
            np.savez(content, features=rows)
            with environment.begin(write=True) as transaction:
                transaction.put(name.encode(), content.getvalue())
