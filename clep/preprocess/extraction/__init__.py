"""Videos and images → rows of a frozen encoder → one bank, in shards on one machine or many; for all video jobs."""

from clep.preprocess.extraction.extract import extract
from clep.preprocess.extraction.items import VideoItem
from clep.preprocess.extraction.ledger import Entry, ledger_path, read_ledger
from clep.preprocess.extraction.settings import Extraction
from clep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Entry",
    "Extraction",
    "VideoItem",
    "extract",
    "ledger_path",
    "read_ledger",
]
