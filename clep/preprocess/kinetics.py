"""Job: Kinetics' csv and videos, or extracted features → labelled clips, features, prompts and their embeddings."""

from dataclasses import dataclass
from pathlib import Path

from clep.datasets.kinetics import read_kinetics
from clep.preprocess.clip_set import ClipSetJob, ClipTable
from clep.text import kinetics_prompts


@dataclass(frozen=True, kw_only=True)
class Kinetics(ClipSetJob, job="kinetics"):
    """Kinetics' csv and videos, or extracted features → labelled clips, prompts and their embeddings.

    Attributes:
        csv: Kinetics' list with the columns label, youtube_id, time_start, time_end.
        features: folder of <youtube_id>_<start:06d>_<end:06d>.pt (or .npy) files, [rows, dim] or [dim]; or a bank with
            such ids. Not read where videos are given.
        videos: folder of <youtube_id>_<start:06d>_<end:06d>.mp4 files, also sorted into folders. null: features are
            given.
    """

    csv: str | Path = "${paths.kinetics}/val.csv"
    features: str | Path | None = "${paths.kinetics}/features"
    videos: str | Path | None = None
    output_folder: str | Path = "${paths.out}/kinetics"

    def inputs(self) -> list[Path]:
        """Return the csv, and the videos or features."""
        return [Path(self.csv), *self.feature_inputs()]

    def read(self) -> ClipTable:
        """Read Kinetics' list."""
        clips, repeated = read_kinetics(self.csv)
        return ClipTable(clips, [self.csv], {"prompt": kinetics_prompts(clips.classes)}, {"repeated_in_csv": repeated})
