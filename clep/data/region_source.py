"""A region bank with the file that describes it, and the bank that context comes from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64

from clep.bank import FeatureBank
from clep.data.key_frame_clips import KeyFrameClips
from clep.data.long_term import LongTerm
from clep.data.region_dataset import RegionDataset
from clep.data.regions import Regions
from clep.errors import InputError
from clep.metrics.ava import AVA_60
from clep.metrics.ava_files import AVA_ACTIONS, read_label_map

Which = Literal["annotated", "detected"]


class RegionSource:
    """Regions of one split.

    Args:
        bank: of the job `ava`, e.g. train.h5.
        regions: that describe its rows; None for `X.regions.h5` beside `X.h5`.
        context_bank: from which the minute around a region is gathered; None for `bank`. A bank of detected boxes
            gives training the same kind of context as evaluation.
        boxes: which of them are examples.
    """

    def __init__(
        self,
        bank: str | Path,
        regions: str | Path | None = None,
        context_bank: str | Path | None = None,
        boxes: Which = "annotated",
    ) -> None:
        self.bank_path = Path(bank)
        self.regions_path = Path(regions) if regions else self.bank_path.with_suffix(".regions.h5")
        self.context_path = Path(context_bank) if context_bank else self.bank_path
        self.boxes = boxes

    @property
    def encoders(self) -> tuple[str, str]:
        """Names of the encoders of the bank and of the bank that context comes from."""
        return FeatureBank.open(self.bank_path).encoder, FeatureBank.open(self.context_path).encoder

    @property
    def dims(self) -> tuple[int, int]:
        """Numbers in a row of the bank, and of the bank that context comes from."""
        return FeatureBank.open(self.bank_path).dim, FeatureBank.open(self.context_path).dim

    def open(
        self,
        classes: Sequence[int],
        context: LongTerm,
        device: str = "disk",
        clips: KeyFrameClips | None = None,
        augment: bool = False,
    ) -> RegionDataset:
        """Open the banks and return the regions as examples.

        Raises:
            InputError: a file is missing or of another run, there is no such box, or no video has a context.
        """
        bank = FeatureBank.open(self.bank_path, device)
        regions = Regions.open(self.regions_path)
        regions.check_bank(bank, self.regions_path)
        same = self.context_path == self.bank_path
        other = None if same else FeatureBank.open(self.context_path, device)
        found = RegionDataset(regions, bank, self.rows(regions), classes, context, other, clips, augment)
        if len(found.without_context) == len(regions.videos):
            raise InputError(
                f"{self.context_path} has no rows of any of the {len(regions.videos)} videos of {self.bank_path}, such "
                f"as {regions.videos[0]!r}; is it the bank of this split?"
            )
        return found

    def rows(self, regions: Regions) -> Int64[np.ndarray, " rows"]:
        """Return the regions that are examples.

        Raises:
            InputError: there are none; the message says which job makes them.
        """
        rows = np.flatnonzero(regions.annotated if self.boxes == "annotated" else ~regions.annotated)
        if not len(rows):
            raise InputError(
                f"{self.regions_path} has no {self.boxes} boxes; `python -m clep.preprocess ava boxes={self.boxes}` "
                f"makes a bank of them"
            )
        return rows


def action_classes(label_map: str | Path | None) -> list[int]:
    """Return the ids that a classifier learns: "all" is AVA's 80, None the 60 of the challenge, else a label map's."""
    if label_map is None:
        return list(AVA_60)
    return list(AVA_ACTIONS) if str(label_map) == "all" else list(read_label_map(label_map))
