"""DataModule of a user's table: settings that say where the table and the features are."""

from pathlib import Path
from typing import Any

from clep.data.datamodule import MomentDataModule
from clep.data.source import Source


class TableDataModule(MomentDataModule):
    """A `MomentDataModule` beside the settings of the jobs `features` and `table`, which `prepare=table` reads.

    Only `sources` and `options` are used here; the others say what the jobs make the banks of `sources` from.

    Args:
        sources: see `MomentDataModule`.
        table: the table: csv, tsv, parquet or jsonl, see `clep.datasets.moment_table`.
        features: a bank, or a folder of feature files; None with `videos`.
        features_per_second: rows per second of the feature files; a bank has its own.
        row_seconds: seconds that a row covers; None: 1 / `features_per_second`.
        features_encoder: name of the encoder that made the feature files; a bank has its own.
        array: name of the array in feature files that hold several.
        videos: folder or list of videos to encode instead.
        columns: names of the table's columns where they differ: `{"text": "caption"}`.
        options: of `MomentDataModule`.

    Examples:
        >>> from clep.data import NarrationSource, TableDataModule
        >>> source = NarrationSource("narrations.arrow", "texts.h5", "features.h5")
        >>> data = TableDataModule({"mine": source}, table="pairs.csv", features="features", batch_size=16)
        >>> data.dims
        (12, 8)
    """

    def __init__(
        self,
        sources: dict[str, Source],
        table: str | Path,
        features: str | Path | None = None,
        features_per_second: float | int | None = None,
        row_seconds: float | int | None = None,
        features_encoder: str = "",
        array: str | None = None,
        videos: str | Path | None = None,
        columns: dict[str, str | None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(sources, **options)
