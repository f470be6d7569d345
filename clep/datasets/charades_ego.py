"""Charades-Ego (Sigurdsson et al., CVPR 2018): multi-label videos with the classes of Charades."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.files import open_input
from clep.tables import read_table, refuse_empty

COLUMNS = ("id", "actions", "egocentric")


def read_classes(path: str | Path) -> dict[str, str]:
    """Read the classes as `{"c008": "Opening a door"}`, in the order of the file.

    Raises:
        InputError: the file is missing or empty, has a duplicate class, or a line without a code and a name.
    """
    with open_input(path) as file:
        lines = file.read().decode("utf-8-sig", errors="replace").splitlines()
    classes: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        code, _, name = line.strip().partition(" ")
        if not code:
            continue
        if not name.strip():
            raise InputError(f'{path}, line {number}: {line!r} is not a code and a name like "c008 Opening a door"')
        if code in classes:
            raise InputError(f"{path}, line {number}: duplicate class {code!r}; list each class once")
        classes[code] = name.strip()
    if not classes:
        raise InputError(f'{path} lists no class; expected lines like "c008 Opening a door"')
    return classes


def read_ego_charades(
    csvs: Sequence[str | Path], classes: dict[str, str], classes_path: str | Path
) -> tuple[LabelledClips, dict[str, float], list[str]]:
    """Read csv files as multi-label videos.

    Videos without actions are kept with a row of zeros: they count as negatives. If an id occurs more than once, the
    first row counts.

    Args:
        csvs: files with the columns id, actions, egocentric, and optionally length.
        classes: from `read_classes`.
        classes_path: file of the classes, for messages.

    Returns:
        The clips; the known durations in seconds, by id; the duplicate ids.

    Raises:
        InputError: a column is missing, an action is not among the classes, or `egocentric` is neither Yes nor No.
    """
    column = {code: index for index, code in enumerate(classes)}
    labels: dict[str, list[int]] = {}
    first_person: list[bool] = []
    lengths: dict[str, float] = {}
    repeated: list[str] = []
    for csv in csvs:
        table = read_table(csv, COLUMNS, optional=("length",))
        refuse_empty(table["id"], csv)
        seconds = table["length"] if "length" in table.columns else [""] * len(table)
        for video, actions, egocentric, length in zip(
            table["id"], table["actions"], table["egocentric"], seconds, strict=True
        ):
            if video in labels:
                repeated.append(video)
                continue
            if egocentric.lower() not in ("yes", "no"):
                raise InputError(f"{csv}, video {video!r}: egocentric is {egocentric!r}; write Yes or No")
            labels[video] = [
                _class_of(action, column, csv, video, classes_path) for action in actions.split(";") if action.strip()
            ]
            first_person.append(egocentric.lower() == "yes")
            if length.replace(".", "", 1).isdigit():
                lengths[video] = float(length)
    matrix = np.zeros((len(labels), len(classes)), dtype=np.uint8)
    for row, found in enumerate(labels.values()):
        matrix[row, found] = 1
    clips = LabelledClips(
        "ego_charades",
        list(labels),
        list(classes.values()),
        labels=matrix,
        first_person=np.array(first_person, dtype=bool),
    )
    return clips, lengths, repeated


def _class_of(action: str, column: dict[str, int], csv: str | Path, video: str, classes_path: str | Path) -> int:
    code = action.split()[0]
    if code not in column:
        raise InputError(
            f"{csv}, video {video!r}: the action {code!r} (in {action.strip()!r}) is not among the {len(column)} "
            f"classes of {classes_path}; give the list of classes that belongs to the csv"
        )
    return column[code]
