"""Job: videos and boxes of AVA → a long-term bank of region features, and a file that describes each region."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clep.datasets.ava import AVA_ACTIONS, read_annotations, read_excluded, read_label_map
from clep.datasets.ava_proposals import read_proposals
from clep.errors import InputError
from clep.extraction import Extraction
from clep.extraction.listing import find_files
from clep.extraction.region_boxes import Boxes, VideoBoxes, describe_rows, gather_boxes
from clep.extraction.regions import RegionExtraction, RegionItem
from clep.preprocess.job import config_group, given_paths
from clep.preprocess.videos import VideosJob

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ava(VideosJob, job="ava"):
    """AVA's videos and boxes → a long-term bank of region features (split=train, or split=val boxes=detected).

    The bank has a row for each box of a key frame; a file beside it describes the rows. This is the counterpart of
    mmaction2's inference of long-term feature banks; `lfb_export` converts the bank into its format. An interrupted run
    is continued; only new videos, and those whose file or boxes changed, are encoded.

    Attributes:
        split: train or val; only the default names of the files below depend on it.
        videos: a folder of <video>.mp4 (or .mkv, …), or of a folder <video> with the key frames <second>.jpg.
        annotations: csv of lines video,second,x1,y1,x2,y2,action,person, e.g. ava_train_v2.2.csv.
        proposals: detected boxes: mmaction2's .pkl, or a csv of lines video,second,x1,y1,x2,y2[[,action],score].
        boxes: which become rows: "annotated" (for training), "detected" (for evaluation), or "both".
        score_threshold: detected boxes of a lower score are left out.
        excluded: csv of lines video,second: frames to leave out.
        label_map: which action ids exist, a .pbtxt or mmaction2's label_map.txt. null: 1 to 80.
        output: the bank to write, e.g. train.h5; train.regions.h5, ledger and coverage go beside it.
        extraction: how regions are encoded, see its options below.
    """

    split: str | None = "train"
    videos: str | Path = "${paths.ava}/videos"
    annotations: str | Path | None = "${paths.ava}/ava_${.split}_v2.2.csv"
    proposals: str | Path | None = "${paths.ava}/ava_dense_proposals_${.split}.FAIR.recall_93.9.pkl"
    boxes: Boxes = "annotated"
    score_threshold: float | int = 0.9
    excluded: str | Path | None = "${paths.ava}/ava_${.split}_excluded_timestamps_v2.2.csv"
    label_map: str | Path | None = None
    output: str | Path = "${paths.out}/ava/${.split}.h5"
    extraction: Mapping[str, Any] | RegionExtraction | None = field(
        default=None, metadata=config_group("extraction", "regions")
    )

    def inputs(self) -> list[Path]:
        """Return the videos, and the files of boxes that `boxes` needs."""
        return given_paths(self.videos, *self._box_files(), self.excluded, self.label_map)

    def outputs(self) -> list[Path]:
        """Return the bank, and the file that describes its rows."""
        return [Path(self.output), regions_path(self.output)]

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and lists of the videos that are not in the bank, with the reason.

        Raises:
            InputError: a file is missing or a line of it is wrong, no video has a file, or nothing could be encoded.
        """
        found, left = self._read_boxes()
        items = self._items_of(found)
        if not items:
            raise InputError(
                f"{self.videos} has neither a video nor a folder of key frames for any of the {len(found)} videos that "
                f"have boxes, such as {next(iter(found))}.mp4"
            )
        with_file = {item.id for item in items}
        skipped = {name: f"no {name}.mp4 in {Path(self.videos).name}" for name in found if name not in with_file}
        if skipped and self.on_error == "stop":
            name, reason = next(iter(skipped.items()))
            raise InputError(f"video {name!r}: {reason} (on_error=skip continues without it)")
        files = ", ".join(path.name for path in given_paths(*self._box_files()))
        result = self.encode(items, f"ava: {self.boxes} boxes of {files}", skipped)
        if "waiting_for" not in result:
            target = regions_path(self.output)
            regions = describe_rows(Path(self.output), target, found)
            regions.write(target)
            counts = {"regions": len(regions), "annotated": int(regions.annotated.sum()), **left}
            logger.info("%s: %s", target, ", ".join(f"{value:,} {name}" for name, value in counts.items()))
            result = result | {"regions": counts}
        return result

    def items(self) -> list[RegionItem]:
        """Return the videos that have boxes, and a file or a folder of key frames."""
        return self._items_of(self._read_boxes()[0])

    def settings(self) -> Extraction:
        """Return the options in `extraction`, checked."""
        return RegionExtraction.of(self.extraction)

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why encoding the regions would take long, or None; never where the outputs exist."""
        return super().cost_warning(long_texts, long_bytes) if self.missing_outputs() else None

    def _box_files(self) -> tuple[str | Path | None, str | Path | None]:
        """Return the annotations and the proposals, None for those that `boxes` does not need."""
        annotations = self.annotations if self.boxes != "detected" else None
        return annotations, self.proposals if self.boxes != "annotated" else None

    def _read_boxes(self) -> tuple[dict[str, VideoBoxes], dict[str, int]]:
        known = AVA_ACTIONS if self.label_map is None else read_label_map(self.label_map)
        # AVA's csv holds all 80 actions, whichever of them a label map for the challenge lists.
        actions = {*AVA_ACTIONS, *known}
        annotations, proposals = self._box_files()
        return gather_boxes(
            self.boxes,
            read_annotations(annotations, actions, as_regions=True) if annotations else None,
            read_proposals(proposals) if proposals else None,
            self.score_threshold,
            read_excluded(self.excluded) if self.excluded else (),
        )

    def _items_of(self, found: Mapping[str, VideoBoxes]) -> list[RegionItem]:
        files = find_files(self.videos, list(found))
        items = []
        for video, boxes in found.items():
            folder = Path(self.videos) / video
            if video in files or folder.is_dir():
                seconds = boxes.by_second()
                from_images = video not in files
                items.append(
                    RegionItem(
                        video,
                        str(folder if from_images else files[video]),
                        duration_s=float(len(seconds)) if from_images else float("nan"),
                        boxes=seconds,
                        boxes_digest=boxes.digest(),
                    )
                )
        return items


def regions_path(bank: str | Path) -> Path:
    """Return the file that describes the regions of a bank: `X.regions.h5` beside `X.h5`."""
    return Path(bank).with_suffix(".regions.h5")
