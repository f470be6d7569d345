"""Feature banks: the features (rows) that a frozen encoder made of each video, and the clock from seconds to rows."""

from clep.bank.clock import Clock
from clep.bank.feature_bank import FeatureBank
from clep.bank.files import check_open_banks
from clep.bank.lmdb import build_lmdb
from clep.bank.writer import BankWriter, convert_per_video, copy_video

__all__ = ["BankWriter", "Clock", "FeatureBank", "build_lmdb", "check_open_banks", "convert_per_video", "copy_video"]
