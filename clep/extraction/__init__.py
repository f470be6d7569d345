"""The resumable engine: videos, images, regions, feature files and texts → rows in shards → one bank."""

from clep.extraction.ledger import Entry, ledger_path, read_ledger
from clep.extraction.listing import VideoItem
from clep.extraction.settings import Extraction
from clep.extraction.videos import extract
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
