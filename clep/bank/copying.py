"""Videos from one bank into another."""

from clep.bank.feature_bank import FeatureBank
from clep.bank.writer import BankWriter


def copy_video(bank: FeatureBank, uid: str, writer: BankWriter) -> None:
    """Add a video of one bank to another: its rows, their seconds where the clock is irregular, its duration.

    Raises:
        InputError: the bank lacks the video, or the other one refuses it (see `BankWriter.add`).
    """
    seconds = bank.video_seconds(uid)
    duration_s = float(bank.duration_s[bank.index([uid])])
    writer.add(uid, bank.video_rows(uid), None if seconds is None else seconds.cpu(), duration_s)
