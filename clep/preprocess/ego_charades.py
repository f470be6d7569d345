"""Job: Charades-Ego's csv, classes and videos, or extracted features → labelled videos, features and prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clep.datasets.charades_ego import read_classes, read_ego_charades
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.preprocess.clip_set import ClipSetJob, ClipTable
from clep.text import ego_charades_prompts


@dataclass(frozen=True, kw_only=True)
class EgoCharades(ClipSetJob, job="ego_charades"):
    """Charades-Ego's csv, classes and videos, or extracted features → labelled videos, prompts and their embeddings.

    Attributes:
        csv: CharadesEgo_v1_test.csv, or a list of csv files, with the columns id, actions, egocentric.
        classes: Charades_v1_classes.txt, lines like "c008 Opening a door".
        features: folder of <id>.pt (or .npy) files, [rows, dim] or [dim]; or a bank with such ids. Not read where
            videos are given.
        videos: folder of <id>.mp4 files, also sorted into folders. null: features are given.
    """

    csv: str | Path | Sequence[str | Path] = "${paths.ego_charades}/CharadesEgo_v1_test.csv"
    classes: str | Path = "${paths.ego_charades}/Charades_v1_classes.txt"
    features: str | Path | None = "${paths.ego_charades}/features"
    videos: str | Path | None = None
    output_folder: str | Path = "${paths.out}/ego_charades"

    def inputs(self) -> list[Path]:
        """Return the csv files, the classes, and the videos or features."""
        return [*map(Path, self._csvs()), Path(self.classes), *self.feature_inputs()]

    def read(self) -> ClipTable:
        """Read the csv files and the classes."""
        csvs = self._csvs()
        clips, durations, repeated = read_ego_charades(csvs, read_classes(self.classes), self.classes)
        notes = {"repeated_in_csv": repeated, **_label_notes(clips)}
        return ClipTable(clips, [self.classes, *csvs], ego_charades_prompts(clips.classes), notes, durations)

    def _csvs(self) -> list[str | Path]:
        csvs = [self.csv] if isinstance(self.csv, str | Path) else list(self.csv)
        if not csvs:
            raise InputError("csv is an empty list; give CharadesEgo_v1_test.csv")
        return csvs


def _label_notes(clips: LabelledClips) -> dict[str, list[str]]:
    assert clips.labels is not None
    assert clips.first_person is not None
    unlabelled, unused = clips.labels.sum(axis=1) == 0, clips.labels.sum(axis=0) == 0
    return {
        "first_person_videos": [clips.ids[row] for row in np.flatnonzero(clips.first_person)],
        "videos_without_labels": [clips.ids[row] for row in np.flatnonzero(unlabelled)],
        "classes_without_videos": [clips.classes[index] for index in np.flatnonzero(unused)],
    }
