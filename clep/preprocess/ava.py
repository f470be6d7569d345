"""Job: videos and boxes of AVA → a long-term bank of region features, and what is known of each region."""

import logging
from pathlib import Path
from typing import Any

from clep.datasets.ava import AVA_ACTIONS, read_annotations, read_excluded, read_label_map
from clep.datasets.ava_proposals import read_proposals
from clep.errors import InputError
from clep.extraction import extract
from clep.extraction.items import Dtype, OnError
from clep.extraction.listing import find_files
from clep.extraction.region_boxes import Boxes, VideoBoxes, describe_rows, gather_boxes
from clep.extraction.regions import RegionExtraction, RegionItem
from clep.extraction.videos import videos_cost_warning

logger = logging.getLogger(__name__)


def run(
    *,
    videos: str | Path,
    output: str | Path,
    extraction: dict[str, Any] | RegionExtraction,
    annotations: str | Path | None = None,
    proposals: str | Path | None = None,
    boxes: Boxes = "annotated",
    score_threshold: float | int = 0.9,
    excluded: str | Path | None = None,
    label_map: str | Path | None = None,
    split: str | None = None,
    dtype: Dtype = "float16",
    on_error: OnError = "skip",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Encode each box of AVA's key frames into a bank with a row a box, and describe the rows in a file beside it.

    The counterpart of mmaction2's inference of long-term feature banks; `lfb_export` turns the bank into its format.
    Continues where an interrupted run stopped, and encodes only videos that are new or whose file or boxes changed.

    Args:
        videos: a folder of <video>.mp4 (or .mkv, …), or of a folder <video> with the key frames <second>.jpg.
        output: the bank to write, e.g. train.h5; train.regions.h5, ledger and coverage go beside it.
        extraction: how regions are encoded, see its options below.
        annotations: csv of lines video,second,x1,y1,x2,y2,action,person, e.g. ava_train_v2.2.csv.
        proposals: detected boxes: mmaction2's .pkl, or a csv of lines video,second,x1,y1,x2,y2[[,action],score].
        boxes: which become rows: "annotated" (for training), "detected" (for evaluation), or "both".
        score_threshold: detected boxes of a lower score are left out.
        excluded: csv of lines video,second: frames to leave out.
        label_map: which action ids exist, a .pbtxt or mmaction2's label_map.txt. null: 1 to 80.
        split: of the set, by which conf/job/ava.yaml names the files; not read.
        dtype: number format of the bank; float16 halves its size.
        on_error: "skip" lists videos that cannot be used and goes on, "stop" ends at the first of them.
        overwrite: encode everything anew.

    Returns:
        The coverage: counts, and lists of the videos that are not in the bank, with the reason.

    Raises:
        InputError: a file is missing or a line of it is wrong, no video has a file, or nothing could be encoded.
    """
    found, left = _boxes(annotations, proposals, boxes, score_threshold, excluded, label_map)
    items = _items(videos, found)
    if not items:
        raise InputError(
            f"{videos} has neither a video nor a folder of key frames for any of the {len(found)} videos that have "
            f"boxes, such as {next(iter(found))}.mp4"
        )
    there = {item.id for item in items}
    skipped = {name: f"no {name}.mp4 in {Path(videos).name}" for name in found if name not in there}
    if skipped and on_error == "stop":
        name, reason = next(iter(skipped.items()))
        raise InputError(f"video {name!r}: {reason} (on_error=skip goes on without it)")
    result = extract(
        "ava",
        items,
        output,
        RegionExtraction.of(extraction),
        source=f"ava: {boxes} boxes of {', '.join(Path(path).name for path in (annotations, proposals) if path)}",
        dtype=dtype,
        on_error=on_error,
        overwrite=overwrite,
        skipped=skipped,
    )
    if "waiting_for" not in result:
        regions = describe_rows(Path(output), regions_path(output), found)
        regions.write(regions_path(output))
        counts = {"regions": len(regions), "annotated": int(regions.annotated.sum()), **left}
        logger.info("%s: %s", regions_path(output), ", ".join(f"{value:,} {name}" for name, value in counts.items()))
        result = result | {"regions": counts}
    return result


def regions_path(bank: str | Path) -> Path:
    """Return where the regions of a bank are described: `X.regions.h5` beside `X.h5`."""
    return Path(bank).with_suffix(".regions.h5")


def _boxes(
    annotations: str | Path | None,
    proposals: str | Path | None,
    boxes: Boxes,
    score_threshold: float | int,
    excluded: str | Path | None,
    label_map: str | Path | None,
) -> tuple[dict[str, VideoBoxes], dict[str, int]]:
    known = AVA_ACTIONS if label_map is None else read_label_map(label_map)
    # AVA's csv holds all 80 actions, whichever of them a label map for the challenge lists.
    actions = {*AVA_ACTIONS, *known}
    return gather_boxes(
        boxes,
        read_annotations(annotations, actions, as_regions=True) if annotations and boxes != "detected" else None,
        read_proposals(proposals) if proposals and boxes != "annotated" else None,
        score_threshold,
        read_excluded(excluded) if excluded else (),
    )


def _items(videos: str | Path, found: dict[str, VideoBoxes]) -> list[RegionItem]:
    files = find_files(videos, list(found))
    items = []
    for video, boxes in found.items():
        folder = Path(videos) / video
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


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    files = ("videos", "annotations", "proposals", "excluded", "label_map")
    needless = {"annotated": "proposals", "detected": "annotations"}.get(options["boxes"])
    return [Path(options[name]) for name in files if options.get(name) and name != needless]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return [Path(options["output"]), regions_path(options["output"])]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    if all(path.exists() for path in outputs(options)):
        return None
    named = ("annotations", "proposals", "boxes", "score_threshold", "excluded", "label_map")
    found, _ = _boxes(*(options[name] for name in named))
    settings = RegionExtraction.of(options["extraction"])
    items = _items(options["videos"], found)
    return videos_cost_warning(items, options["output"], settings, options["dtype"], options["overwrite"])
