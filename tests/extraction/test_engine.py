"""The engine with an encoder that costs nothing: kills at any moment, and batches that hold parts of several items."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from clep.bank import Clock, FeatureBank
from clep.compute import Local
from clep.errors import InputError
from clep.extraction.engine import Engine, ShardSize, is_settled, shards_folder
from clep.extraction.items import Dtype, EncodedItem, Item, RowFacts, RowSource
from clep.extraction.ledger import ledger_path, read_ledger

DIM = 4


@dataclass(frozen=True)
class Word:
    """An item with a row per letter."""

    id: str
    fingerprint: str = "v1"
    cost: int = 1
    max_rows: int | None = None

    def rows(self) -> np.ndarray:
        digests = [blake2b(f"{self.fingerprint}{letter}".encode(), digest_size=DIM).digest() for letter in self.id]
        return np.array([list(digest) for digest in digests], np.float32)


@dataclass(frozen=True)
class Letters(RowSource):
    """Encodes letters in batches that hold letters of several words; a word with "!" fails at it."""

    batch_size: int = 3
    seconds: float = 0.0
    dtype: Dtype = "float32"
    noun: ClassVar[str] = "words"
    name: ClassVar[str] = "letters"
    dim: ClassVar[int] = DIM
    batches: ClassVar[list[int]] = []

    @property
    def key(self) -> str:
        return "0123456789ab"

    def bank_clock(self) -> Clock:
        return Clock(1.0, 1.0)

    def load(self) -> "Letters":
        return self

    def encode(self, items: Sequence[Item], begin: Callable[[Item], None]) -> Iterator[EncodedItem]:
        words = [item for item in items if isinstance(item, Word)]
        parts = [(word, row) for word in words for row in word.rows()]
        batches = (parts[start : start + self.batch_size] for start in range(0, len(parts), self.batch_size))
        rows = chain.from_iterable(self._encoded(batch) for batch in batches)
        for word in words:
            yield EncodedItem(
                word, self._rows_of(word, rows), lambda word=word: RowFacts(duration_s=float(len(word.id)))
            )

    def _encoded(self, batch: list[tuple[Word, np.ndarray]]) -> list[np.ndarray]:
        self.batches.append(len({word.id for word, _ in batch}))
        time.sleep(self.seconds)
        return [row for _, row in batch]

    def _rows_of(self, word: Word, rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        error = None
        for letter in word.id:
            row = next(rows)
            if letter == "!":
                error = InputError("it shouts")
            elif error is None:
                yield row[None]
        if error is not None:
            raise error


def make(output: Path, words: Sequence[Word], source: RowSource, **size: int) -> Engine:
    """Make the bank of these words from what earlier runs left."""
    engine = Engine(output, source, "words", ShardSize(**{"cost": 7} | size))
    fingerprints = {word.id: word.fingerprint for word in words}
    with engine.lock():
        known = engine.finished(fingerprints.get)
        missing = [word for word in words if not is_settled(known.get(word.id), word.fingerprint)]
        lost = engine.encode(missing, Local(processes=1))
        known = lost | engine.finished(fingerprints.get)
        engine.join({word.id: known[word.id] for word in words})
    return engine


def words(count: int, seed: int = 0) -> list[Word]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 9, count)
    return [Word(f"w{number:03d}" + "x" * int(length)) for number, length in enumerate(lengths)]


def test_batches_may_hold_parts_of_several_items_and_a_failure_affects_only_its_item(tmp_path: Path) -> None:
    given = [Word("ab"), Word("b!c"), Word("c"), Word("defgh"), Word("i!")]
    Letters.batches.clear()
    make(tmp_path / "x.h5", given, Letters(), fewest=1, most=1)
    assert max(Letters.batches) > 1
    bank = FeatureBank.open(tmp_path / "x.h5")
    assert bank.videos == ["ab", "c", "defgh"]
    for word in (given[0], given[2], given[3]):
        np.testing.assert_array_equal(bank.video_rows(word.id).numpy(), word.rows())
    assert bank.duration_s.tolist() == [2.0, 1.0, 5.0]
    entries = {entry.id: (entry.status, entry.reason) for entry in read_ledger(ledger_path(tmp_path / "x.h5"))}
    assert entries["b!c"] == entries["i!"] == ("failed", "it shouts")


@pytest.mark.parametrize("cost", [1, 5, 1000])
@pytest.mark.parametrize("save_every", [0, 1, 4])
def test_the_bank_does_not_depend_on_the_shards(tmp_path: Path, cost: int, save_every: int) -> None:
    given = words(20)
    make(tmp_path / "whole.h5", given, Letters(batch_size=1))
    size = {"cost": cost} | ({"save_every": save_every} if save_every else {})
    make(tmp_path / "cut.h5", given, Letters(batch_size=5), **size)
    assert (tmp_path / "cut.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("save_every", [0, 2])
def test_kills_at_any_moment_lose_nothing_and_leave_nothing(tmp_path: Path, save_every: int) -> None:
    given, source = words(40), Letters(seconds=0.002)
    size = {"save_every": save_every} if save_every else {}
    make(tmp_path / "whole" / "x.h5", given, source)
    output = tmp_path / "killed" / "x.h5"
    generator = np.random.default_rng(save_every)
    for _ in range(6):
        process = multiprocessing.get_context("fork").Process(target=make, args=(output, given, source), kwargs=size)
        process.start()
        time.sleep(float(generator.uniform(0.02, 0.15)))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    # A kill between a shard's bank and its ledger leaves the bank, whose name tells that its writer is dead.
    engine = make(output, given, source, **size)
    assert output.read_bytes() == (tmp_path / "whole" / "x.h5").read_bytes()
    assert sorted(path.name for path in output.parent.iterdir()) == [".x.shards.lock", "x.h5", "x.ledger.jsonl"]
    assert not shards_folder(output).exists()
    assert engine.is_joined(engine.finished({word.id: word.fingerprint for word in given}.get))


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def test_a_kill_at_any_step_of_the_removal_leaves_nothing_after_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, removed, kill_at = [*words(6), Word("b!c")], 0, -1
    unlink, rmdir, remove_shards = os.unlink, os.rmdir, Engine.remove_shards

    def counted(call, *args, **kwargs):
        nonlocal removed
        removed += 1
        if removed == kill_at + 1:
            raise Killed
        return call(*args, **kwargs)

    def remove(engine: Engine, pending=()) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", partial(counted, unlink))
            patch.setattr(os, "rmdir", partial(counted, rmdir))
            remove_shards(engine, pending)

    monkeypatch.setattr(Engine, "remove_shards", remove)
    make(tmp_path / "whole" / "x.h5", given, Letters(), cost=4)
    steps, whole = removed, (tmp_path / "whole" / "x.h5").read_bytes()
    assert steps > 6  # two shards with a bank, a ledger and a journal each, and their folder
    for kill_at in range(steps):
        output, removed = tmp_path / str(kill_at) / "x.h5", 0
        with pytest.raises(Killed):
            make(output, given, Letters(), cost=4)
        assert output.read_bytes() == whole  # removed only once the bank is there
        for ledger in shards_folder(output).glob("*.jsonl"):
            assert ledger.with_suffix(".h5").exists() or all(one.status != "done" for one in read_ledger(ledger))
        removed = -1000
        make(output, given, Letters(), cost=4)
        assert sorted(path.name for path in output.parent.iterdir()) == [".x.shards.lock", "x.h5", "x.ledger.jsonl"]
        assert output.read_bytes() == whole


@pytest.mark.parametrize("hidden", [".h5", ".jsonl"])
def test_a_late_file_of_a_shard_stays_until_its_results_are_used(tmp_path: Path, hidden: str) -> None:
    given = words(6)
    engine = Engine(tmp_path / "x.h5", Letters(), "words", ShardSize(cost=3))
    with engine.lock():
        engine.encode(given, Local(processes=1))
        late = sorted(shards_folder(engine.output).glob(f"*{hidden}"))[0]
        late.rename(tmp_path / "late")
        engine.join(engine.with_unknown(given, engine.finished({word.id: "v1" for word in given}.get)))
    other = {".h5": ".jsonl", ".jsonl": ".h5"}[hidden]
    assert {path.suffix for path in shards_folder(engine.output).glob(f"{late.stem}.*")} == {other, ".journal"}
    (tmp_path / "late").rename(late)
    Letters.batches.clear()
    make(engine.output, given, Letters())
    assert Letters.batches == []
    assert FeatureBank.open(engine.output).videos == sorted(word.id for word in given)
    assert not shards_folder(engine.output).exists()


def test_a_new_fingerprint_replaces_the_rows(tmp_path: Path) -> None:
    given = words(6)
    make(tmp_path / "x.h5", given, Letters())
    changed = [Word(word.id, "v2") if index % 2 else word for index, word in enumerate(given)]
    make(tmp_path / "x.h5", changed, Letters())
    bank = FeatureBank.open(tmp_path / "x.h5")
    for word in changed:
        np.testing.assert_array_equal(bank.video_rows(word.id).numpy(), word.rows())


def test_a_damaged_line_of_the_ledger_affects_only_its_item(tmp_path: Path) -> None:
    given = words(6)
    make(tmp_path / "x.h5", given, Letters())
    before = (tmp_path / "x.h5").read_bytes()
    ledger = ledger_path(tmp_path / "x.h5")
    lines = ledger.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"rows": ', b'"rows": 1')
    ledger.write_bytes(b"".join(lines))
    Letters.batches.clear()
    make(tmp_path / "x.h5", given, Letters(batch_size=100))
    assert Letters.batches == [1]
    assert (tmp_path / "x.h5").read_bytes() == before
    assert len(read_ledger(ledger)) == 6


def test_no_rows_at_all_is_an_error_that_writes_no_bank(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.h5 was not written.*'!': it shouts"):
        make(tmp_path / "x.h5", [Word("!")], Letters())
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize("output", ["x.hdf5", "x", "folder.h5"])
def test_invalid_outputs_are_refused(tmp_path: Path, output: str) -> None:
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(InputError, match=r"must be a file name that ends in \.h5"):
        Engine(tmp_path / output, Letters(), "words", ShardSize(cost=1))
