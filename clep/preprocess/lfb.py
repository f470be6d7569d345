"""Jobs: mmaction2's long-term feature banks (`lfb_{train,val}.pkl`) → a feature bank, and back."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.datasets.lfb_files import Lfb, load_lfb, save_lfb
from clep.errors import InputError
from clep.extraction.coverage import Coverage, Value, file_digest
from clep.extraction.items import Dtype
from clep.preprocess.job import Job

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LfbImport(Job, job="lfb_import"):
    """mmaction2's long-term feature banks (lfb_train.pkl, lfb_val.pkl) → one feature bank.

    The files hold {video: {second: tensor [regions, dim]}}. A row's second is the key of its features in the file, so
    `long_term` with the same window and `per_second` takes the rows that mmaction2 would.

    Attributes:
        lfb: the file, or a list of files whose videos differ, such as lfb_train.pkl and lfb_val.pkl.
        output: the bank to write, e.g. lfb.h5.
        dtype: number format of the bank; float16 halves its size.
        encoder: name of the model that made the features; trained models remember it.
        row_seconds: seconds that one row covers from its second on.
        overwrite: write the bank again even where it is up to date.
    """

    lfb: str | Path | list[str] = "${paths.ava}/lfb/lfb_train.pkl"
    output: str | Path = "${paths.out}/lfb.h5"
    dtype: Dtype = "float16"
    encoder: str = ""
    row_seconds: float | int = 1.0
    overwrite: bool = False

    def inputs(self) -> list[Path]:
        """Return the files of mmaction2."""
        return [Path(path) for path in self.lfb] if isinstance(self.lfb, list) else [Path(self.lfb)]

    def outputs(self) -> list[Path]:
        """Return the bank."""
        return [Path(self.output)]

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and the videos without a region, which a bank cannot hold.

        Raises:
            InputError: a file is missing, pickles code or holds something else, or the disk is full.
        """
        paths = self.inputs()
        row_seconds = float(self.row_seconds)
        settings: dict[str, Value] = {"dtype": self.dtype, "encoder": self.encoder, "row_seconds": row_seconds}
        coverage = Coverage(self.name, self.output, file_digest(*paths), settings)
        done = None if self.overwrite else coverage.last_run(FeatureBank.open)
        if done is not None:
            logger.info("%s is up to date", self.output)
            return done | {"up_to_date": True}
        content = _merged(paths)
        videos = {video: seconds for video, seconds in content.items() if seconds}
        if not videos:
            raise InputError(f"{paths[0]} holds no region of any video")
        coverage.forget_last_run()
        regions = [len(rows) for seconds in videos.values() for rows in seconds.values()]
        dim = next(iter(next(iter(videos.values())).values())).shape[1]
        source, clock = ", ".join(path.name for path in paths), Clock.irregular(row_seconds)
        with BankWriter(self.output, dim, clock, self.dtype, self.encoder, source, n_rows=sum(regions)) as writer:
            for video in sorted(videos):
                ordered = sorted(videos[video].items())
                seconds = [float(second) for second, rows in ordered for _ in range(len(rows))]
                writer.add(video, torch.cat([rows for _, rows in ordered]), seconds)
        coverage.count(files=len(paths), videos=len(videos), seconds=len(regions), rows=sum(regions), dim=dim)
        coverage.add_list("without_a_region", sorted(set(content) - set(videos)))
        return coverage.write() | {"up_to_date": False}

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why reading the files would take long, or None; never where the bank exists."""
        size = sum(path.stat().st_size for path in self.inputs())
        if size <= long_bytes or Path(self.output).exists():
            return None
        return f"{size / 1e9:,.0f} GB of features are to be read"


@dataclass(frozen=True, kw_only=True)
class LfbExport(Job, job="lfb_export"):
    """A feature bank → mmaction2's long-term feature bank (lfb_train.pkl).

    Writes {video: {second: tensor [regions, dim]}} with torch.save. A row goes to the integer second in which it
    starts, in stored order and in the dtype of the bank. In mmaction2's config, lfb_channels is the feature dimension,
    and the number of rows taken of each second is a setting too.

    Attributes:
        bank: the feature bank, a file or a folder of shards.
        output: the file to write, e.g. lfb_train.pkl.
        overwrite: write it even where it exists.
    """

    bank: str | Path = "${paths.out}/lfb.h5"
    output: str | Path = "${paths.out}/lfb_train.pkl"
    overwrite: bool = False

    def inputs(self) -> list[Path]:
        """Return the bank."""
        return [Path(self.bank)]

    def outputs(self) -> list[Path]:
        """Return the file for mmaction2."""
        return [Path(self.output)]

    def run(self) -> dict[str, Any]:
        """Return counts of videos, seconds and rows.

        Raises:
            InputError: the bank cannot be read or is one of texts, the output exists, or the disk is full.
        """
        if Path(self.output).exists() and not self.overwrite:
            raise InputError(f"{self.output} exists: pass overwrite=true to write it again, or another output")
        opened = FeatureBank.open(self.bank)
        lfb = bank_to_lfb(opened)
        save_lfb(self.output, lfb)
        counts = {"videos": len(lfb), "seconds": sum(map(len, lfb.values())), "rows": opened.n_rows}
        logger.info("%s: %s", self.output, ", ".join(f"{count:,} {name}" for name, count in counts.items()))
        return counts


def bank_to_lfb(bank: FeatureBank) -> Lfb:
    """Return the rows of a bank by video and the integer second that they start in; tensors of a video share memory.

    Raises:
        InputError: a bank of texts.
    """
    if bank.clock is None:
        raise InputError(f"{bank.path} is a bank of texts: its rows have no seconds")
    lfb: Lfb = {}
    for index, video in enumerate(bank.videos):
        rows = bank.video_rows(video).to(bank.dtype).cpu()
        seconds = bank.video_seconds(video)
        duration_s = float(bank.duration_s[index])
        starts = bank.clock.row_starts(len(rows), duration_s, None if seconds is None else seconds.cpu())
        whole, counts = np.unique(np.floor(starts).astype(np.int64), return_counts=True)
        lfb[video] = dict(zip(whole.tolist(), torch.split(rows, counts.tolist()), strict=True))
    return lfb


def _merged(paths: list[Path]) -> Lfb:
    merged: Lfb = {}
    owner: dict[str, Path] = {}
    dims: dict[int, Path] = {}
    for path in paths:
        for video, seconds in load_lfb(path).items():
            if video in owner:
                raise InputError(f"video {video!r} is in both {owner[video]} and {path}; a bank holds a video once")
            owner[video], merged[video] = path, seconds
            dims.update({rows.shape[1]: path for rows in list(seconds.values())[:1]})
    if len(dims) > 1:
        raise InputError(f"the files disagree in dim: {', '.join(f'{path} has {dim}' for dim, path in dims.items())}")
    return merged
