"""Feature banks: rows that a frozen encoder made for each video, and the clock that maps seconds to rows."""

from clep.bank.clock import Clock
from clep.bank.feature_bank import FeatureBank
from clep.bank.lmdb_build import build_lmdb
from clep.bank.long_term import SlotBuffers
from clep.bank.writer import BankWriter, convert_per_video, copy_video

__all__ = ["BankWriter", "Clock", "FeatureBank", "SlotBuffers", "build_lmdb", "convert_per_video", "copy_video"]
