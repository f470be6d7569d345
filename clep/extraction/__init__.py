"""Videos and images → rows of a frozen encoder → one bank, in shards on one machine or many; for all video jobs."""

from clep.extraction.extract import extract
from clep.extraction.items import VideoItem
from clep.extraction.ledger import Entry, ledger_path, read_ledger
from clep.extraction.settings import Extraction
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
