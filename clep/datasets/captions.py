"""Captions of images as narrations: each image is a video of one frame, with its captions at second 0."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from clep.tables import read_table, refuse_empty
from clep.text.narration_table import SPLITS, NarrationTable
from clep.text.texts import Texts

COLUMNS = ("filepath", "title")
HINT = "Its header must name them, with a tab between them."


def read_captions(tsv: str | Path) -> pd.DataFrame:
    """Read the columns filepath and title of Conceptual Captions' table (Sharma et al., ACL 2018); cells are strings.

    Raises:
        InputError: the file is missing, is no table, lacks a column, has no rows, or a row has too few or too many
            cells or an empty file path.
    """
    table = read_table(tsv, COLUMNS, HINT, "\t")
    refuse_empty(table["filepath"], tsv)
    return table


def caption_table(images: Sequence[str], captions: Sequence[str]) -> NarrationTable:
    """Make the narration table of images and their captions.

    An image may have several captions. Repeated blanks become one; empty captions are dropped and counted in the
    table's report.

    Args:
        images: image id of each caption.
        captions: sentences without tags.
    """
    cleaned = [" ".join(caption.split()) for caption in captions]
    kept = [(image, caption) for image, caption in zip(images, cleaned, strict=True) if caption]
    videos = tuple(sorted({image for image, _ in kept}))
    index_of = {video: index for index, video in enumerate(videos)}
    kept.sort(key=lambda pair: index_of[pair[0]])
    texts: dict[str, int] = {}
    text_id = np.array([texts.setdefault(caption, len(texts)) for _, caption in kept], dtype=np.int32)
    distinct = Texts.of(texts)
    return NarrationTable(
        videos=videos,
        duration_s=np.full(len(videos), np.nan),
        splits={name: np.full(len(videos), "", dtype=np.str_) for name in SPLITS},
        redacted=np.zeros(len(videos), dtype=bool),
        video=np.array([index_of[image] for image, _ in kept], dtype=np.int32),
        second=np.zeros(len(kept)),
        passes=np.ones(len(kept), dtype=np.int8),
        text_id=text_id,
        written_id=text_id,
        texts=distinct,
        written=distinct,
        words=np.array([min(len(caption.split()), 32767) for _, caption in kept], dtype=np.int16),
        report={"empty": len(captions) - len(kept)},
    )
