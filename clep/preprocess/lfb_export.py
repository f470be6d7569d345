"""Job: a feature bank → mmaction2's long-term feature bank (`lfb_{train,val}.pkl`)."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clep.bank import FeatureBank
from clep.datasets.lfb_files import Lfb, save_lfb
from clep.errors import InputError

logger = logging.getLogger(__name__)


def run(*, bank: str | Path, output: str | Path, overwrite: bool = False) -> dict[str, Any]:
    """Write the rows of a bank as mmaction2 reads them: {video: {second: tensor [regions, dim]}}, by torch.save.

    A row goes to the integer second in which it starts, in stored order and in the dtype of the bank. In mmaction2's
    config, lfb_channels is the feature dimension, and the rows used of each second are a setting too.

    Args:
        bank: the feature bank, a file or a folder of shards.
        output: the file to write, e.g. lfb_train.pkl.
        overwrite: write it even where it exists.

    Returns:
        Counts of videos, seconds and rows.

    Raises:
        InputError: the bank cannot be read or is one of texts, the output exists, or the disk is full.
    """
    if Path(output).exists() and not overwrite:
        raise InputError(f"{output} exists: pass overwrite=true to write it again, or another output")
    opened = FeatureBank.open(bank)
    lfb = bank_to_lfb(opened)
    save_lfb(output, lfb)
    counts = {"videos": len(lfb), "seconds": sum(map(len, lfb.values())), "rows": opened.n_rows}
    logger.info("%s: %s", output, ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    return counts


def bank_to_lfb(bank: FeatureBank) -> Lfb:
    """The rows of a bank by video and the whole second that they start in; a video's tensors share their memory.

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


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return [Path(options["bank"])]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return [Path(options["output"])]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    return None
