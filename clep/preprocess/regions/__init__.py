"""Region banks: boxes of annotations and detectors, their rows, and what is known of each."""

from clep.preprocess.regions.boxes import Boxes, VideoBoxes, gather_boxes
from clep.preprocess.regions.examples import describe_rows
from clep.preprocess.regions.extraction import RegionExtraction, RegionItem
from clep.preprocess.regions.proposals import read_proposals

__all__ = [
    "Boxes",
    "RegionExtraction",
    "RegionItem",
    "VideoBoxes",
    "describe_rows",
    "gather_boxes",
    "read_proposals",
]
