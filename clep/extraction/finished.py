"""What earlier runs left that counts: rows in the bank and in shards, and files known to be bad."""

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.extraction.coverage import coverage_path
from clep.extraction.ledger import Entry, ledger_path, read_ledger
from clep.files import temporaries

NO_LEDGER_S = 3600.0
"""A shard whose ledger has not come after so many seconds will never have one: its worker was killed in between."""


@dataclass(frozen=True)
class Finished:
    """What became of a video, and which bank holds its rows (None where it has none)."""

    entry: Entry
    bank: Path | None


def shards_folder(output: Path) -> Path:
    """Return the hidden folder where shards lie until they are joined."""
    return output.with_name(f".{output.stem}.shards")


def shard_path(output: Path, key: str, name: str) -> Path:
    """Return the file of a shard whose rows were decided by the settings of `key`."""
    return shards_folder(output) / f"{key}-{name}.h5"


def source_words(words: str, key: str) -> str:
    """Return the `source` of a bank made with the settings of `key`."""
    return f"{words} [settings {key}]"


def finished_videos(output: Path, key: str, files: Mapping[str, str], joined: bool = True) -> dict[str, Finished]:
    """Find what was done before with the same settings, in the joined bank and in whole shards.

    Of several accounts of one video, that of the file as it is now counts before others, and rows before a failure.

    Args:
        output: the joined bank.
        key: digest of the settings.
        files: id → fingerprint of its file as it is now.
        joined: whether the joined bank counts; without it, only shards.
    """
    found: dict[str, Finished] = {}

    def worth(one: Finished) -> tuple[bool, bool]:
        return one.entry.file == files.get(one.entry.id), one.bank is not None

    banks = [(output, ledger_path(output))] if joined else []
    for bank_path, ledger in [*banks, *_shards(output, key)]:
        for one in read_shard(bank_path, ledger, key):
            known = found.get(one.entry.id)
            if known is None or worth(one) > worth(known):
                found[one.entry.id] = one
    return found


def whole_shards(output: Path, key: str) -> set[Path]:
    """Return the banks of shards that have a ledger."""
    return {bank for bank, _ in _shards(output, key)}


def is_settled(one: Finished | None, file: str, retry_failed: bool = False) -> bool:
    """Whether there is nothing to do about a video whose file has this fingerprint: it is done, or known to be bad."""
    if one is None or one.entry.file != file:
        return False
    return one.entry.status == "done" or (one.entry.final and not retry_failed)


def shows(bank: Path) -> bool:
    """Whether a shard shows here: its ledger, and its bank itself where that says that a video is done.

    A shared file system may show a file that was made elsewhere so much later, and one of two before the other.
    """
    try:
        entries = read_ledger(bank.with_suffix(".jsonl"))
    except InputError:
        return False
    return bank.exists() or not any(entry.status == "done" for entry in entries)


def forget_shards(output: Path, banks: Iterable[Path]) -> None:
    """Remove shards whose videos are in the joined bank, with their ledgers and journals."""
    for bank in banks:
        for path in (bank, bank.with_suffix(".jsonl"), bank.with_suffix(".journal")):
            path.unlink(missing_ok=True)
    folder = shards_folder(output)
    if folder.exists() and not any(folder.glob("*.h5")) and not any(folder.glob("*.jsonl")):
        shutil.rmtree(folder, ignore_errors=True)


def forget_other_settings(output: Path, key: str) -> None:
    """Remove shards made with other settings; what they hold will not be asked for again."""
    for path in shards_folder(output).glob("*"):
        if path.is_file() and not path.name.startswith(f"{key}-"):
            path.unlink(missing_ok=True)


def forget_leftovers(output: Path) -> None:
    """Remove half-made files that killed runs left; only for a process that alone makes this output."""
    for path in (output, ledger_path(output), coverage_path(output)):
        for left in temporaries(path):
            left.unlink(missing_ok=True)
    for left in shards_folder(output).glob(".*.tmp.*"):
        left.unlink(missing_ok=True)
    for bank in shards_folder(output).glob("*.h5"):
        if not bank.with_suffix(".jsonl").exists() and time.time() - bank.stat().st_mtime > NO_LEDGER_S:
            bank.unlink(missing_ok=True)


def _shards(output: Path, key: str) -> list[tuple[Path, Path]]:
    ledgers = sorted(shards_folder(output).glob(f"{key}-*.jsonl"))
    return [(ledger.with_suffix(".h5"), ledger) for ledger in ledgers]


def read_shard(bank_path: Path, ledger: Path, key: str) -> list[Finished]:
    """Return what a bank and its ledger hold that was made with the settings of `key`; nothing where one is damaged."""
    if not ledger.exists():
        return []
    try:
        entries = [entry for entry in read_ledger(ledger) if entry.settings == key]
        ids: set[str] = set()
        if bank_path.exists():
            bank = FeatureBank.open(bank_path)
            ids = set(bank.videos) if bank.source.endswith(f"[settings {key}]") else set()
    except InputError:
        return []  # damaged, or of an older format: made again
    done = [Finished(entry, bank_path) for entry in entries if entry.status == "done" and entry.id in ids]
    return done + [Finished(entry, None) for entry in entries if entry.status == "failed"]
