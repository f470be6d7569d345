"""Job: compare files of clep with the checksums that they store."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.bank import FeatureBank
from clep.bank.files import BANK_SUFFIXES, read_tables
from clep.bank.format import FORMAT, file_format, read_header
from clep.bank.lmdb import LMDB_SUFFIX
from clep.checksums import read_checked_json
from clep.data.regions import FORMAT as REGIONS_FORMAT
from clep.data.regions import Regions
from clep.datasets.labelled_clips import FORMAT as CLIPS_FORMAT
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.files import read_json
from clep.hdf5 import open_hdf5
from clep.models.checkpoint_file import check_file_digest, read_checkpoint
from clep.models.saving import CONFIG, WEIGHTS, verify_folder
from clep.preprocess.job import Job
from clep.remote import is_remote, local_path, shown, suffix
from clep.text import Narrations

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """One kind of file that can be verified.

    Attributes:
        name: for messages.
        recognise: whether a file is of this kind, by its name and first bytes; it must not raise for any file.
        verify: read the file whole and compare it with its checksums; returns a line that says what was compared.
            Raises an InputError where they differ.
    """

    name: str
    recognise: Callable[[Path], bool]
    verify: Callable[[Path], str]


@dataclass(frozen=True, kw_only=True)
class Verify(Job, job="verify"):
    """Verify files of clep: compare their content with the checksums that they store.

    Reads banks, their LMDBs, narrations, clips, regions, JSON files of jobs, models and checkpoints whole. Files
    without checksums, written by an older clep, are counted and named, and are no error.

    Attributes:
        path: a file or its URL, a folder (every known file in and below it), or a list of these.
        rows: read the rows of banks too. false: header and tables alone, which of a remote bank are a few range
            requests; the bank is not fetched.
    """

    path: str | Path | list[str] = "${paths.out}"
    rows: bool = True

    def inputs(self) -> list[Path]:
        """Return the files and folders to read."""
        return [Path(one) for one in self.path] if isinstance(self.path, list) else [Path(self.path)]

    def outputs(self) -> list[Path]:
        """Return nothing: no file is written."""
        return []

    def run(self) -> dict[str, Any]:
        """Return counts of files that are intact, and of those without checksums.

        Raises:
            InputError: a file is damaged (the message names every damaged file), or there is nothing to verify.
        """
        paths = self.inputs()
        counts = {"intact": 0, "without_checksums": 0}
        damaged = []
        for file, kind in _files(paths):
            try:
                found = kind.verify(file) if self.rows or kind.verify is not _verify_bank else _verify_tables(file)
            except InputError as error:
                damaged.append(str(error))
                logger.error("damaged: %s", error)
                continue
            without = found.startswith(WITHOUT)
            counts["without_checksums" if without else "intact"] += 1
            logger.info("%s %s: %s", kind.name, shown(file), found)
        if damaged:
            total = len(damaged) + sum(counts.values())
            raise InputError(f"{len(damaged)} of {total} files are damaged: {'; '.join(damaged)}")
        if not any(counts.values()):
            known = ", ".join(kind.name for kind in KINDS)
            raise InputError(f"{', '.join(map(str, paths))}: no file there can be verified ({known})")
        return counts


WITHOUT = "no checksums"


def _files(paths: list[Path]) -> Iterator[tuple[Path, Kind]]:
    for path in paths:
        if is_remote(path) and suffix(path) in BANK_SUFFIXES:  # KINDS would fetch it to look at its first bytes
            yield path, next(kind for kind in KINDS if kind.verify is _verify_bank)
            continue
        path = local_path(path)
        if not path.exists():
            raise InputError(f"{path} does not exist")
        named = not path.is_dir()
        for file in [path] if named else sorted(p for p in path.rglob("[!.]*") if p.is_file()):
            kind = next((kind for kind in KINDS if kind.recognise(file)), None)
            if kind is not None:
                yield file, kind
            elif named:
                known = ", ".join(kind.name for kind in KINDS)
                raise InputError(f"{file} is no file that can be verified: {known}")


def _hdf5_format(path: Path) -> str | None:
    """Return which of our HDF5 formats a file has; None where it is of another kind."""
    if path.suffix not in (".h5", ".hdf5"):
        return None
    try:
        with path.open("rb") as file:
            if file.read(len(FORMAT)) == FORMAT.encode():
                return FORMAT
        with open_hdf5(path) as opened:
            return file_format(opened)
    except (InputError, OSError):
        return None


def _verify_tables(path: Path) -> str:
    bank = read_tables(path)
    encoder = bank.encoder or "unknown encoder"
    found = f"{len(bank.ids):,} videos, {bank.first_row[-1]:,} rows of {bank.dim} ({encoder}), rows not read"
    return f"{WITHOUT}; {found}" if bank.digests is None else f"tables intact, {found}"


def _verify_bank(path: Path) -> str:
    if read_header(local_path(path)) is None:
        FeatureBank.open(path)
        return f"{WITHOUT}, written by an older clep; tables can be read"
    bank = FeatureBank.open(path, verify=True)
    return f"intact, {len(bank):,} videos, {bank.n_rows:,} rows"


def _verify_lmdb(path: Path) -> str:
    bank = FeatureBank.open(path, "lmdb", verify=True)
    return f"intact, {len(bank):,} videos, {bank.n_rows:,} rows"


def _verify_clips(path: Path) -> str:
    clips = LabelledClips.open(path)
    return _table(path, 2, f"{len(clips):,} clips of {len(clips.classes):,} classes")


def _verify_regions(path: Path) -> str:
    return _table(path, 1, f"{len(Regions.open(path)):,} regions")


def _table(path: Path, unverified_versions: int, found: str) -> str:
    with open_hdf5(path) as file:
        has_checksum = int(file.attrs["version"]) > unverified_versions
    return f"intact, {found}" if has_checksum else f"{WITHOUT}, of an older clep; {found}"


def _verify_narrations(path: Path) -> str:
    narrations = Narrations.open(path)
    narrations.verify()
    return f"intact, {len(narrations):,} narrations"


def _is_checked_json(path: Path) -> bool:
    if path.suffix != ".json" or path.name == CONFIG:
        return False
    try:
        content = read_json(path)
    except InputError:
        return path.name == "prompts.json" or path.name.endswith(".coverage.json")
    return isinstance(content, dict) and "checksum" in content


def _verify_json(path: Path) -> str:
    read_checked_json(path)
    return "intact"


def _is_model(path: Path) -> bool:
    if path.name != WEIGHTS or not (path.parent / CONFIG).is_file():
        return False
    try:
        content = read_json(path.parent / CONFIG)
    except InputError:
        return True  # its config is damaged
    return isinstance(content, dict) and "model" in content


def _verify_model(path: Path) -> str:
    return f"intact, with {CONFIG}" if verify_folder(path.parent) else f"{WITHOUT}, but it can be loaded"


def _verify_checkpoint(path: Path) -> str:
    checkpoint = read_checkpoint(path)
    known = check_file_digest(path)
    return f"intact, step {checkpoint.get('global_step')}" if known else f"{WITHOUT}, but it can be loaded"


KINDS: list[Kind] = [
    Kind("feature bank", lambda path: _hdf5_format(path) == FORMAT, _verify_bank),
    Kind("LMDB of a bank", lambda path: path.suffix == LMDB_SUFFIX, _verify_lmdb),
    Kind("clips", lambda path: _hdf5_format(path) == CLIPS_FORMAT, _verify_clips),
    Kind("regions", lambda path: _hdf5_format(path) == REGIONS_FORMAT, _verify_regions),
    Kind("narrations", lambda path: path.suffix == ".arrow", _verify_narrations),
    Kind("JSON with a checksum", _is_checked_json, _verify_json),
    Kind("model", _is_model, _verify_model),
    Kind("checkpoint", lambda path: path.suffix == ".ckpt", _verify_checkpoint),
]
"""Kinds of files, in the order in which they are tried. A reader of another format adds its own here."""
