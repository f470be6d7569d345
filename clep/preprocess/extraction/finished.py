"""What earlier runs left that counts: rows in the bank and in shards, and files known to be bad."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.preprocess.extraction.ledger import Entry, ledger_path, read_ledger


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


def finished_videos(output: Path, key: str) -> dict[str, Finished]:
    """Find what was done before with the same settings, in the joined bank and in whole shards."""
    found: dict[str, Finished] = {}
    banks = [(output, ledger_path(output))]
    banks += [(path.with_suffix(".h5"), path) for path in sorted(shards_folder(output).glob(f"{key}-*.jsonl"))]
    for bank_path, ledger in banks:
        for entry, bank in _read(bank_path, ledger, key):
            found[entry.id] = Finished(entry, bank)
    return found


def forget_unfinished(output: Path, key: str | None) -> None:
    """Remove journals of runs that ended, and shards of other settings; None removes everything."""
    folder = shards_folder(output)
    if key is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.glob("*"):
        if path.is_file() and (path.suffix == ".journal" or not path.name.startswith(f"{key}-")):
            path.unlink(missing_ok=True)


def _read(bank_path: Path, ledger: Path, key: str) -> list[tuple[Entry, Path | None]]:
    if not ledger.exists():
        return []
    try:
        entries = read_ledger(ledger)
        ids: set[str] = set()
        if bank_path.exists():
            bank = FeatureBank.open(bank_path)
            if not bank.source.endswith(f"[settings {key}]"):
                return []
            ids = set(bank.videos)
        elif not bank_path.name.startswith(f"{key}-"):
            return []  # a ledger without its bank: whose settings, nobody knows
    except InputError:
        return []  # damaged, or of an older format: made again
    return [
        (entry, bank_path if entry.status == "done" else None)
        for entry in entries
        if entry.status == "failed" or (entry.status == "done" and entry.id in ids)
    ]
