"""Kinetics' csv files of labelled clips (Kay et al., 2017)."""

from pathlib import Path

import numpy as np

from clep.datasets.labelled_clips import LabelledClips
from clep.tables import parse_whole_seconds, read_table, refuse_empty

COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def read_kinetics(csv: str | Path) -> tuple[LabelledClips, list[str]]:
    """Read a csv as clips with one label each; the classes are its distinct labels, sorted.

    The column `split` is ignored: pass the csv of one split. If a clip occurs more than once, the first row counts.

    Returns:
        The clips, and the ids of duplicate rows.

    Raises:
        InputError: a column is missing, a time is not a number, or a row has no label or no id.
    """
    table = read_table(csv, COLUMNS)
    for column in ("label", "youtube_id"):
        refuse_empty(table[column], csv)
    classes = sorted(set(table["label"]))
    label_of = {name: index for index, name in enumerate(classes)}
    times = zip(*(parse_whole_seconds(table[name], csv) for name in ("time_start", "time_end")), strict=True)
    label: dict[str, int] = {}
    repeated = []
    for youtube_id, (start, end), name in zip(table["youtube_id"], times, table["label"], strict=True):
        clip = f"{youtube_id}_{start:06d}_{end:06d}"
        if clip in label:
            repeated.append(clip)
        else:
            label[clip] = label_of[name]
    clips = LabelledClips("kinetics", list(label), classes, label=np.array(list(label.values()), dtype=np.int64))
    return clips, repeated
