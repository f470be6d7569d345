"""Jobs: a folder or list of videos, or Ego4D's videos → one bank of the features of a frozen encoder."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clep.datasets.ego4d import read_videos
from clep.extraction import Extraction, VideoItem, extract
from clep.extraction.items import Dtype, OnError
from clep.extraction.listing import find_files, list_videos, other_files
from clep.extraction.videos import output_files, videos_cost_warning
from clep.preprocess.job import Job, config_group


@dataclass(frozen=True, kw_only=True)
class VideosJob(Job):
    """Base of the jobs that encode videos into one feature bank.

    Attributes:
        output: the bank to write, e.g. features.h5; its ledger and coverage go beside it.
        extraction: how videos are encoded, see its options below.
        dtype: number format of the bank; float16 halves its size.
        on_error: "skip" lists videos that cannot be used and goes on, "stop" ends at the first of them.
        overwrite: encode everything again.
    """

    videos: str | Path
    output: str | Path
    extraction: Mapping[str, Any] | Extraction | None = field(
        default=None, metadata=config_group("extraction", "default")
    )
    dtype: Dtype = "float16"
    on_error: OnError = "skip"
    overwrite: bool = False

    @abstractmethod
    def items(self) -> Sequence[VideoItem]:
        """Return the videos to encode."""

    def inputs(self) -> list[Path]:
        """Return the folder or list of videos."""
        return [Path(self.videos)]

    def outputs(self) -> list[Path]:
        """Return the bank."""
        return [Path(self.output)]

    def settings(self) -> Extraction:
        """Return the options in `extraction`, checked.

        Raises:
            InputError: an option is unknown, of another type or out of range, or no encoder is given.
        """
        return Extraction.of(self.extraction)

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why encoding what is not in the bank yet would take long, or None."""
        return videos_cost_warning(self.items(), self.output, self.settings(), self.dtype, self.overwrite)

    def encode(self, items: Sequence[VideoItem], source: str, skipped: Mapping[str, str]) -> dict[str, Any]:
        """Encode videos into the bank; see `clep.extraction.extract`."""
        return extract(
            self.name,
            items,
            self.output,
            self.settings(),
            source=source,
            dtype=self.dtype,
            on_error=self.on_error,
            overwrite=self.overwrite,
            skipped=skipped,
        )


@dataclass(frozen=True, kw_only=True)
class Videos(VideosJob, job="videos"):
    """A folder or list of videos and images → one bank of the features of a frozen encoder.

    An interrupted run is continued; only new and changed videos are encoded.

    Attributes:
        videos: a folder of videos (ids are paths in it without suffix), a list file of lines name<TAB>path, or a csv
            with the columns id and path.
    """

    videos: str | Path = "${paths.data}/videos"
    output: str | Path = "${paths.out}/features.h5"

    def items(self) -> list[VideoItem]:
        """Return the videos of the folder or list."""
        return list_videos(self.videos)

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and lists of the videos that are not in the bank, with the reason.

        Raises:
            InputError: nothing could be encoded, an option is wrong, or the disk is full.
        """
        self.settings()  # a wrong option is named before the folder is searched
        others = other_files(self.videos, output_files(Path(self.output)))
        return self.encode(self.items(), f"videos: {Path(self.videos).name}", others)


@dataclass(frozen=True, kw_only=True)
class Ego4DVideos(VideosJob, job="ego4d_videos"):
    """Ego4D's videos and ego4d.json → one feature bank; of a stereo video the left eye.

    An interrupted run is continued; only new and changed videos are encoded.

    Attributes:
        videos: folder of <video_uid>.mp4 files, as `full_scale` of Ego4D's download.
        ego4d_json: Ego4D's metadata: the list of videos, their durations, and which are stereo.
    """

    videos: str | Path = "${paths.ego4d}/videos"
    ego4d_json: str | Path = "${paths.ego4d}/ego4d.json"
    output: str | Path = "${paths.out}/ego4d_features.h5"

    def inputs(self) -> list[Path]:
        """Return the folder of videos and the metadata."""
        return [Path(self.videos), Path(self.ego4d_json)]

    def items(self) -> list[VideoItem]:
        """Return the videos of the metadata that have a file."""
        known = read_videos(self.ego4d_json)
        return [
            VideoItem(uid, str(path), left_eye=known[uid].stereo, duration_s=known[uid].duration_s)
            for uid, path in find_files(self.videos, list(known)).items()
        ]

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and lists of the videos that are not in the bank, with the reason.

        Raises:
            InputError: the metadata is missing or of another layout, no video could be encoded, or the disk is full.
        """
        self.settings()  # a wrong option is named before the folder is searched
        items, folder = self.items(), Path(self.videos).name
        found = {item.id for item in items}
        skipped = {uid: f"no file {uid}.mp4 in {folder}" for uid in read_videos(self.ego4d_json) if uid not in found}
        return self.encode(items, f"Ego4D videos: {folder}", skipped)
