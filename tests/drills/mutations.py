"""Damage files and read them again: `python -m tests.drills.mutations mutations=3000`.

Each mutation flips a bit, cuts the file, zeroes a page of 4 kB or swaps two pages of one file, and reads it in a forked
process with a limit of time and memory. What may follow: an `InputError` (or, for a feature file, its own reason), or
exactly the values from before. Faults are a wrong value, another exception, a crash, a hang.

Banks and LMDBs are read in two ways: with `verify=True`, where any wrong value is a fault, and as training reads them,
where blocks are compared at their first read: a value that was read must be right. Bytes that no reader uses (padding,
alignment) may change unseen, since the values stay right.

"""

import json
import pickle
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import RESULTS, read_settings
from clep.bank import BankWriter, Clock, FeatureBank, build_lmdb
from clep.checksums import read_checked_json
from clep.data import Regions
from clep.datasets.ego4d import read_ego4d
from clep.datasets.labelled_clips import LabelledClips
from clep.extraction.feature_files import checked_rows, open_features
from clep.extraction.ledger import read_intact_entries
from clep.models import load_model, write_checkpoint
from clep.models.checkpoint_file import read_checkpoint
from clep.text import Narrations
from tests.data.tiny_regions import write_regions
from tests.drills.reading import read_in_a_process
from tests.drills.records import add_record, code_digest
from tests.evaluation.tiny_clips import write_kinetics
from tests.preprocess.conftest import write_ego4d
from tests.training.tiny_run import tiny_model

CODE = (
    *("files.py", "checksums.py", "hdf5.py", "columns.py", "bank", "text/narrations.py", "data/regions.py"),
    *("datasets/labelled_clips.py", "models/saving.py", "models/checkpoint_file.py"),
    *("extraction/ledger.py", "extraction/feature_files.py"),
)
PAGE = 4096
LIMIT_S = 10


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: for the record.
        make: writes one into a folder and returns the path of the file that is damaged.
        read: returns all of its values, as nested tuples, dicts, numbers, texts and bytes.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]


def _bank(folder: Path) -> Path:
    values = np.random.default_rng(0)
    with BankWriter(folder / "bank.h5", 64, Clock(), encoder="some") as writer:
        for video in range(40):
            writer.add(f"v{video:02d}", values.standard_normal((20 + video, 64)).astype(np.float16), duration_s=50.0)
    return folder / "bank.h5"


def _lmdb(folder: Path) -> Path:
    build_lmdb(_bank(folder))
    return folder / "bank.lmdb"


def _bank_values(bank: FeatureBank) -> Any:
    columns = _bytes(bank.duration_s), _bytes(bank.end_s)
    tables = (tuple(bank.videos), bank.encoder, bank.source, str(bank.clock), *columns)
    return tables, tuple(_bytes(bank.video_rows(uid)) for uid in bank.videos)


def _narrations(folder: Path) -> Path:
    read_ego4d(*write_ego4d(folder)).write(folder / "narrations.arrow")
    return folder / "narrations.arrow"


def _narration_values(path: Path) -> Any:
    found = Narrations.open(path)
    arrays = (found.video, found.second, found.passes, found.text_id, found.written_id, found.words, found.redacted)
    splits = {name: tuple(values.tolist()) for name, values in found.splits.items()}
    texts = (tuple(found.texts), tuple(found.written), found.videos, found.tag_style, found.digest)
    return texts, tuple(map(_bytes, arrays)), splits, _bytes(found.duration_s), found.report


def _prompts(folder: Path) -> Path:
    return write_kinetics(folder, clips=60, classes=20).folder / "prompts.json"


def _clips(folder: Path) -> Path:
    return write_kinetics(folder, clips=60, classes=20).folder / "clips.h5"


def _clip_values(path: Path) -> Any:
    found = LabelledClips.open(path)
    assert found.label is not None
    return found.task, tuple(found.ids), tuple(found.classes), _bytes(found.label)


def _regions(folder: Path) -> Path:
    return write_regions(folder, "train", 6, seed=0).with_suffix(".regions.h5")


def _region_values(path: Path) -> Any:
    found = Regions.open(path)
    values = {name: getattr(found, name) for name in Regions.__dataclass_fields__}
    return {name: value if isinstance(value, tuple) else _bytes(value) for name, value in values.items()}


def _model(folder: Path) -> Path:
    tiny_model().save_pretrained(folder)
    return folder / "model.safetensors"


def _model_config(folder: Path) -> Path:
    return _model(folder).with_name("config.json")


def _model_values(path: Path) -> Any:
    model = load_model(path.parent)
    return {name: _bytes(value) for name, value in model.state_dict().items()}, json.dumps(model.config, sort_keys=True)


def _checkpoint(folder: Path) -> Path:
    values = torch.Generator().manual_seed(0)
    state = {f"layer{index}": torch.randn(64, 64, generator=values) for index in range(6)}
    write_checkpoint(folder / "last.ckpt", {"state_dict": state, "global_step": 7})
    return folder / "last.ckpt"


def _checkpoint_values(path: Path) -> Any:
    found = read_checkpoint(path)
    return {name: _bytes(value) for name, value in found["state_dict"].items()}, found["global_step"]


def _ledger(folder: Path) -> Path:
    from clep.extraction.ledger import Entry, write_ledger

    entries = [Entry(f"v{index:03d}", "done", rows=index, fingerprint=f"{index:08x}") for index in range(60)]
    write_ledger(folder / "bank.ledger.jsonl", entries)
    return folder / "bank.ledger.jsonl"


def _features(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(torch.randn(60, 64, generator=torch.Generator().manual_seed(0)), folder / "v.pt")
    return folder / "v.pt"


def _feature_values(path: Path) -> bytes:
    return _bytes(checked_rows(path, open_features(path, verify=True), 64, "float32"))


def _bytes(values: Any) -> bytes:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    return repr((array.dtype.str, array.shape)).encode() + np.ascontiguousarray(array).tobytes()


KINDS = (
    Kind("bank, verify=True", _bank, lambda path: _bank_values(FeatureBank.open(path, verify=True))),
    Kind("bank, verified at the first read", _bank, lambda path: _bank_values(FeatureBank.open(path))),
    Kind("LMDB, verify=True", _lmdb, lambda path: _bank_values(FeatureBank.open(path, "lmdb", verify=True))),
    Kind("LMDB, verified at the first read", _lmdb, lambda path: _bank_values(FeatureBank.open(path, "lmdb"))),
    Kind("narrations", _narrations, _narration_values),
    Kind("clips", _clips, _clip_values),
    Kind("regions", _regions, _region_values),
    Kind("prompts", _prompts, read_checked_json),
    Kind("model.safetensors", _model, _model_values),
    Kind("config.json of a model", _model_config, _model_values),
    Kind("checkpoint", _checkpoint, _checkpoint_values),
    Kind("ledger", _ledger, lambda path: {entry.id: entry for entry in read_intact_entries(path)}),
    Kind("feature .pt", _features, _feature_values),
)


@dataclass
class Settings:
    """Of this drill; `only` is a part of the names of the kinds."""

    mutations: int = 3000
    seed: int = 0
    only: str = ""
    out: str = str(RESULTS / "mutations.json")


def mutate(whole: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Return what was done, and the damaged content."""
    kind = draw.choice(("flip", "flip", "cut", "zero", "swap"))
    content, at = bytearray(whole), draw.randrange(len(whole))
    page = at // PAGE * PAGE
    if kind == "flip":
        content[at] ^= 1 << draw.randrange(8)
        return f"bit of byte {at} flipped", bytes(content)
    if kind == "cut":
        return f"cut at byte {at}", bytes(content[:at])
    if kind == "zero" or len(content) < 2 * PAGE:
        content[page : page + PAGE] = bytes(len(content[page : page + PAGE]))
        return f"page at byte {page} zeroed", bytes(content)
    other = draw.randrange(len(whole) // PAGE) * PAGE
    page = min(page, (len(whole) // PAGE - 1) * PAGE)
    content[page : page + PAGE], content[other : other + PAGE] = (
        whole[other : other + PAGE],
        whole[page : page + PAGE],
    )
    return f"pages at bytes {page} and {other} swapped", bytes(content)


def outcome(kind: Kind, path: Path, expected: Any) -> str:
    """Read a damaged file in a forked process: "refused", "right", or what the fault is."""
    names = path.name.split(".")[0], str(path.parent)
    result = read_in_a_process(lambda path: same(kind, kind.read(path), expected), path, LIMIT_S, names)
    if result.outcome == "read":
        return "right" if result.value else "WRONG VALUE"
    return result.outcome


def same(kind: Kind, found: Any, expected: Any) -> bool:
    """Whether the values are those from before; of a ledger, whose damaged lines are done again, those of the rest."""
    if kind.name == "ledger":
        return all(expected.get(name) == entry for name, entry in found.items())
    return bool(found == expected)


def run(count: int, seed: int, kinds: tuple[Kind, ...], folder: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """Damage the files of each kind in turn; return the outcomes by kind, and a line for each fault."""
    draw, faults = random.Random(seed), []
    made: dict[str, tuple[Path, bytes, Any]] = {}
    for number, kind in enumerate(kinds):
        path = kind.make(folder / f"kind{number}")
        made[kind.name] = path, path.read_bytes(), pickle.loads(pickle.dumps(kind.read(path)))
    outcomes: Mapping[str, Counter[str]] = {kind.name: Counter() for kind in kinds}
    for number in range(count):
        kind = kinds[number % len(kinds)]
        path, whole, expected = made[kind.name]
        what, damaged = mutate(whole, draw)
        if damaged == whole:
            outcomes[kind.name]["right"] += 1
            continue
        path.write_bytes(damaged)
        result = outcome(kind, path, expected)
        path.write_bytes(whole)
        outcomes[kind.name][result] += 1
        if result not in ("right", "refused"):
            faults.append(f"{kind.name}: {what}: {result}")
            sys.stdout.write(faults[-1] + "\n")
    return dict(outcomes), faults


def main(arguments: list[str]) -> int:
    """Damage files, add a record, and return 1 if there was a fault."""
    settings = read_settings(Settings, arguments)
    torch.set_num_threads(1)
    kinds = tuple(kind for kind in KINDS if settings.only in kind.name)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="clep-mutations-") as folder:
        outcomes, faults = run(settings.mutations, settings.seed, kinds, Path(folder))
    record = {
        "seed": settings.seed,
        "mutations": sum(sum(found.values()) for found in outcomes.values()),
        "outcomes": {name: dict(sorted(found.items())) for name, found in outcomes.items()},
        "faults": faults,
        "seconds": round(time.perf_counter() - started, 1),
    }
    same_code = add_record(Path(settings.out), code_digest(CODE), record)
    sys.stdout.write(json.dumps(record, indent=2) + "\n")
    sys.stdout.write(f"mutations of this code in all: {sum(one['mutations'] for one in same_code)}\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
