"""Job: mmaction2's long-term feature banks (`lfb_{train,val}.pkl`) → one feature bank."""

import logging
from pathlib import Path
from typing import Any

import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.datasets.lfb_files import Lfb, load_lfb
from clep.errors import InputError
from clep.extraction.coverage import Coverage, Value, file_digest
from clep.extraction.items import Dtype

logger = logging.getLogger(__name__)


def run(
    *,
    lfb: str | Path | list[str],
    output: str | Path,
    dtype: Dtype = "float16",
    encoder: str = "",
    row_seconds: float | int = 1.0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Turn region features {video: {second: tensor [regions, dim]}} of mmaction2 into a feature bank.

    A row's second is the key that its features have in the file, so `long_term` with the same window and `per_second`
    takes the rows that mmaction2 would.

    Args:
        lfb: the file, or a list of files whose videos differ, such as lfb_train.pkl and lfb_val.pkl.
        output: the bank to write, e.g. lfb.h5.
        dtype: dtype of the rows of the bank; float16 halves its size.
        encoder: name of the model that made the features; trained models remember it.
        row_seconds: seconds that one row covers from its second on.
        overwrite: write the bank anew even where it is up to date.

    Returns:
        The coverage: counts, and the videos without a region, which a bank cannot hold.

    Raises:
        InputError: a file is missing, asks to run code or holds something else, or the disk is full.
    """
    paths = _paths(lfb)
    settings: dict[str, Value] = {"dtype": dtype, "encoder": encoder, "row_seconds": float(row_seconds)}
    coverage = Coverage("lfb_import", output, file_digest(*paths), settings)
    done = None if overwrite else coverage.last_run(FeatureBank.open)
    if done is not None:
        logger.info("%s is up to date", output)
        return done | {"up_to_date": True}
    content = _merged(paths)
    videos = {video: seconds for video, seconds in content.items() if seconds}
    if not videos:
        raise InputError(f"{paths[0]} holds no region of any video")
    coverage.forget_last_run()
    regions = [len(rows) for seconds in videos.values() for rows in seconds.values()]
    dim = next(iter(next(iter(videos.values())).values())).shape[1]
    source = ", ".join(path.name for path in paths)
    clock = Clock.irregular(float(row_seconds))
    with BankWriter(output, dim, clock, dtype, encoder, source, n_rows=sum(regions)) as writer:
        for video in sorted(videos):
            ordered = sorted(videos[video].items())
            seconds = [float(second) for second, rows in ordered for _ in range(len(rows))]
            writer.add(video, torch.cat([rows for _, rows in ordered]), seconds)
    coverage.count(files=len(paths), videos=len(videos), seconds=len(regions), rows=sum(regions), dim=dim)
    coverage.add_list("without_a_region", sorted(set(content) - set(videos)))
    return coverage.write() | {"up_to_date": False}


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return _paths(options["lfb"])


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return [Path(options["output"])]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    size = sum(path.stat().st_size for path in inputs(options))
    if size <= long_bytes or Path(options["output"]).exists():
        return None
    return f"{size / 1e9:,.0f} GB of features are to be read"


def _paths(lfb: str | Path | list[str]) -> list[Path]:
    return [Path(path) for path in lfb] if isinstance(lfb, list) else [Path(lfb)]


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
