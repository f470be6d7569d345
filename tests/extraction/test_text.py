import pickle
import re
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import FeatureBank
from clep.compute import Local
from clep.compute.locks import file_lock
from clep.errors import InputError
from clep.extraction import engine
from clep.extraction import text as text_module
from clep.extraction.coverage import read_coverage
from clep.extraction.engine import Engine, ShardSize
from clep.extraction.ledger import ledger_path, read_ledger
from clep.extraction.text import ChunkEncoder, SentenceRows, TextBank, TextChunk, text_bank_path
from clep.text import Texts
from tests.in_child import in_child
from tests.preprocess.conftest import FakeEncoder, embed, encoder

__all__ = ["encoder"]
TEXTS = [f"sentence {number}" for number in range(10)]
FILES = [".texts.fake.shards.lock", "texts.fake.coverage.json", "texts.fake.h5", "texts.fake.ledger.jsonl"]


def bank_of(folder, texts=TEXTS, digest: str | None = None, **sets) -> TextBank:
    texts = Texts.of(texts)
    return TextBank(folder, "texts", sets or {"texts": texts}, "fake", digest or texts.digest())


def test_row_i_is_text_i(tmp_path, encoder):
    coverage = bank_of(tmp_path).write(chunk=3)
    bank = FeatureBank.open(tmp_path / "texts.fake.h5")
    assert list(bank.videos) == ["texts"]
    assert (bank.clock, bank.encoder, bank.dtype) == (None, "fake", torch.float32)
    assert bank.source == Texts.of(TEXTS).digest()
    assert np.array_equal(bank.video_rows("texts").numpy(), np.stack([embed(text) for text in TEXTS]))
    assert coverage["counts"] == {"encoded_before": 0, "texts": 10, "sets": 1, "dim": 4, "encoder": "fake"}
    assert read_coverage(tmp_path / "texts.fake.h5")["counts"] == coverage["counts"]
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert [(entry.id, entry.rows) for entry in read_ledger(ledger_path(tmp_path / "texts.fake.h5"))] == [
        ("000-0000000000-0000000003", 3), ("000-0000000003-0000000006", 3), ("000-0000000006-0000000009", 3),
        ("000-0000000009-0000000010", 1),
    ]  # fmt: skip


def test_nothing_is_encoded_twice(tmp_path, encoder):
    bank_of(tmp_path).write()
    again = bank_of(tmp_path).write()
    assert again["up_to_date"]
    assert encoder.encoded == TEXTS
    assert bank_of(tmp_path).texts_left() == 0


def test_other_texts_make_the_bank_stale(tmp_path, encoder):
    bank_of(tmp_path).write()
    other = [*TEXTS[:-1], "another"]
    assert bank_of(tmp_path, other).texts_left() == 10
    assert not bank_of(tmp_path, other).write()["up_to_date"]
    rows = FeatureBank.open(tmp_path / "texts.fake.h5").video_rows("texts")
    assert rows[9].tolist() == embed("another").tolist()


def test_a_truncated_bank_is_made_again(tmp_path, encoder):
    bank = bank_of(tmp_path)
    bank.write()
    content = bank.path.read_bytes()
    bank.path.write_bytes(content[: len(content) // 2])
    assert not bank.is_current()
    bank.write()
    assert bank.is_current()


@pytest.mark.parametrize("chunk_after", [3, 4, 100])
def test_after_ctrl_c_a_second_run_continues_and_gives_the_same_bank(tmp_path, encoder, chunk_after):
    bank_of(tmp_path / "whole").write(chunk=3)
    encoder.encoded.clear()
    encoder.interrupt_after = 6
    with pytest.raises(KeyboardInterrupt):
        bank_of(tmp_path).write(chunk=3)
    assert not (tmp_path / "texts.fake.h5").exists()
    assert len(list((tmp_path / ".texts.fake.shards").glob("*.jsonl"))) == 2
    assert bank_of(tmp_path).texts_left() == 4
    encoder.interrupt_after = None
    coverage = bank_of(tmp_path).write(chunk=chunk_after)
    assert coverage["counts"]["encoded_before"] == 6
    assert encoder.encoded == TEXTS
    rows = FeatureBank.open(tmp_path / "texts.fake.h5").video_rows("texts")
    assert torch.equal(rows, FeatureBank.open(tmp_path / "whole" / "texts.fake.h5").video_rows("texts"))
    assert not (tmp_path / ".texts.fake.shards").exists()


def interrupted_with_a_gap(folder, encoder) -> None:
    """Leave the chunks of the texts 0 to 2 and 6 to 8."""
    encoder.interrupt_after = 9
    with pytest.raises(KeyboardInterrupt):
        bank_of(folder).write(chunk=3)
    for ledger in folder.glob(".texts.fake.shards/*.jsonl"):
        if read_ledger(ledger)[0].id.startswith("000-0000000003"):
            ledger.unlink()
    encoder.interrupt_after = None
    encoder.encoded.clear()


def test_only_chunks_of_the_same_texts_are_reused(tmp_path, encoder):
    interrupted_with_a_gap(tmp_path, encoder)
    other = ["changed", *TEXTS[1:], "more"]
    bank_of(tmp_path, other).write(chunk=3)
    assert encoder.encoded == [*other[:6], *other[9:]], "those of the unchanged texts 6 to 8 are kept"
    assert rows_of(tmp_path) == [embed(text).tolist() for text in other]


def test_of_two_results_for_a_chunk_that_of_the_current_texts_counts(tmp_path, encoder):
    first, second = TEXTS, ["changed", *TEXTS[1:]]
    for texts in (first, second):
        encoder.interrupt_after = len(encoder.encoded) + 3
        with pytest.raises(KeyboardInterrupt):
            bank_of(tmp_path, texts).write(chunk=3)
    for texts in (first, second):
        assert bank_of(tmp_path, texts).texts_left() == 7
    encoder.interrupt_after = None
    bank_of(tmp_path, first).write(chunk=3)
    assert rows_of(tmp_path) == [embed(text).tolist() for text in first]
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_two_equal_jobs_at_once_encode_once(tmp_path, encoder):
    jobs = [threading.Thread(target=bank_of(tmp_path).write, kwargs={"chunk": 3}) for _ in range(2)]
    with file_lock(tmp_path / "texts.fake.shards"):
        for job in jobs:
            job.start()
        time.sleep(0.3)
        assert encoder.encoded == []
    for job in jobs:
        job.join()
    assert encoder.encoded == TEXTS
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def test_encoders_do_not_share_chunks(tmp_path, encoder):
    keys = {SentenceRows(name, ("texts",)).key for name in ("fake", "other", "org/fake")}
    assert len(keys) == 3
    assert SentenceRows("fake", ("a",), device="cpu", batch_size=3).key in keys


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("compute", [None, Local(processes=1)])
def test_only_what_is_missing_between_chunks_is_encoded(tmp_path, encoder, chunk, compute):
    interrupted_with_a_gap(tmp_path, encoder)
    assert bank_of(tmp_path).texts_left() == 4
    assert bank_of(tmp_path).write(chunk=chunk, compute=compute)["counts"]["encoded_before"] == 6
    assert encoder.encoded == [*TEXTS[3:6], TEXTS[9]]
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def rows_of(folder) -> list[list[float]]:
    return FeatureBank.open(folder / "texts.fake.h5").video_rows("texts").tolist()


@pytest.mark.parametrize("compute", [Local(processes=1), {"_target_": "clep.compute.Local", "processes": 1}])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_tasks_give_the_same_bank(tmp_path, encoder, compute, chunk):
    sets = {"label": Texts.of(TEXTS), "prompt": ["is a", "is b"]}
    coverage = bank_of(tmp_path, digest="d", **sets).write(chunk=chunk, compute=compute)
    bank = FeatureBank.open(tmp_path / "texts.fake.h5")
    for name, texts in sets.items():
        assert bank.video_rows(name).tolist() == [embed(text).tolist() for text in texts]
    assert coverage["counts"]["texts"] == 12
    assert sorted(encoder.encoded) == sorted([*TEXTS, "is a", "is b"])
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_results_of_other_tasks_are_kept_when_one_fails(tmp_path, encoder, monkeypatch):
    stream = type(encoder).stream

    def broken(self, texts, **options):
        if "sentence 4" in list(texts):
            raise InputError("the model makes NaN of 'sentence 4'")
        return stream(self, texts, **options)

    monkeypatch.setattr(type(encoder), "stream", broken)
    with pytest.raises(InputError, match=r"texts\.fake\.h5 .*1 of 4 chunks.*same command again.*NaN of 'sentence 4'"):
        bank_of(tmp_path).write(chunk=3, compute=Local(processes=1))
    assert not (tmp_path / "texts.fake.h5").exists()
    assert bank_of(tmp_path).texts_left() == 3
    monkeypatch.setattr(type(encoder), "stream", stream)
    encoder.encoded.clear()
    bank_of(tmp_path).write(chunk=3, compute=Local(processes=1))
    assert encoder.encoded == TEXTS[3:6]
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def chunk_bank(tasks, chunk: int):
    """Return the bank of the chunk that starts at a text."""
    for task in tasks.values():
        for ledger in task.saved_ledgers():
            if read_ledger(ledger)[0].id.startswith(f"000-{chunk:010d}"):
                return ledger.with_suffix(".h5")
    raise AssertionError(chunk)


@pytest.mark.parametrize("suffix", [".h5", ".jsonl"])
def test_rows_are_never_shifted_by_a_chunk_that_is_not_visible(tmp_path, encoder, monkeypatch, suffix):
    monkeypatch.setattr(engine, "LATE_S", 0.05)
    hidden = tmp_path / "hidden"

    class Late(Local):
        def run(self, function, tasks, log_folder, watch=None):
            failed = super().run(function, tasks, log_folder, watch)
            chunk_bank(tasks, 0).with_suffix(suffix).rename(hidden)
            return failed

    with pytest.raises(InputError, match=r"texts\.fake\.h5 .*same command again.*are not visible here"):
        bank_of(tmp_path).write(chunk=3, compute=Late(processes=1))
    assert not (tmp_path / "texts.fake.h5").exists()
    encoder.encoded.clear()
    bank_of(tmp_path).write(chunk=3, compute=Local(processes=1))
    assert encoder.encoded == TEXTS[:3]
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def test_a_chunk_that_becomes_visible_late_is_used(tmp_path, encoder):
    class Late(Local):
        def run(self, function, tasks, log_folder, watch=None):
            failed = super().run(function, tasks, log_folder, watch)
            bank = chunk_bank(tasks, 0)
            bank.rename(tmp_path / "hidden.h5")
            threading.Timer(0.1, (tmp_path / "hidden.h5").rename, [bank]).start()
            return failed

    bank_of(tmp_path).write(chunk=3, compute=Late(processes=1))
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def test_a_task_has_its_own_texts_only_and_few_tasks_have_many_chunks(tmp_path):
    sizes: list[int] = []
    pickled: list[int] = []

    class Compute:
        def run(self, function, tasks, log_folder, watch):
            sizes.extend(len(task.items) for task in tasks.values())
            pickled.extend(len(pickle.dumps(task)) for task in tasks.values())
            return dict.fromkeys(tasks, "not done here")

    texts = Texts.of(f"text number {number:06d}" for number in range(4_000))
    with pytest.raises(InputError, match="not done here"):
        TextBank(tmp_path, "texts", {"texts": texts}, "fake", "d").write(chunk=4, compute=Compute())
    assert (sum(sizes), set(sizes)) == (1000, {15, 16})
    assert max(pickled) < 20_000, "all texts together have 72,000 bytes"
    sizes.clear()
    with pytest.raises(InputError, match="not done here"):
        TextBank(tmp_path, "texts", {"texts": texts}, "fake", "d").write(chunk=300, compute=Compute())
    assert sizes == [2] * 7


def test_several_sets_are_consecutive(tmp_path, encoder):
    sets = {"label": ["a", "b"], "prompt": ["is a", "is b"]}
    bank_of(tmp_path, digest="d", **sets).write()
    bank = FeatureBank.open(tmp_path / "texts.fake.h5")
    assert list(bank.videos) == ["label", "prompt"]
    assert bank.video_rows("prompt")[1].tolist() == embed("is b").tolist()


def test_a_chunk_of_nothing_is_refused(tmp_path, encoder):
    with pytest.raises(InputError, match="chunk=0"):
        bank_of(tmp_path).write(chunk=0)


def test_the_path_carries_the_name_of_the_encoder(tmp_path):
    assert (
        text_bank_path(tmp_path, "texts", "sentence-transformers/all-mpnet-base-v2").name
        == "texts.all-mpnet-base-v2.h5"
    )
    assert text_bank_path(tmp_path, "prompts", "org/model v1.5").name == "prompts.org--model-v1.5.h5"


class FakeRows(SentenceRows):
    """Loads the fake encoder in worker processes too."""

    def load(self):
        return ChunkEncoder(FakeEncoder())


def test_two_processes_make_the_bank_that_one_makes(tmp_path):
    texts = Texts.of(TEXTS)
    chunks = [TextChunk(f"000-{at:010d}-{at + 2:010d}", texts[at : at + 2], "f") for at in range(0, 10, 2)]
    banks = {}
    for processes in (1, 2):
        made = Engine(tmp_path / f"{processes}.h5", FakeRows("fake", ("texts",)), "w", ShardSize(cost=4, save_every=1))
        with made.lock():
            assert made.encode(chunks, Local(processes=processes), 3) == {}
            made.join(made.finished(lambda name: "f"))
        banks[processes] = made.output.read_bytes()
        assert FeatureBank.open(made.output).video_rows("texts").tolist() == [embed(text).tolist() for text in TEXTS]
    assert banks[1] == banks[2]


@pytest.mark.parametrize(
    ("done", "kept", "missing"),
    [
        ({}, [], [(0, 10)]),
        ({0: 4, 4: 6}, [0, 4], []),
        ({4: 2}, [4], [(0, 4), (6, 10)]),
        ({0: 5, 3: 4, 8: 1}, [0, 8], [(5, 8), (9, 10)]),
        ({8: 3}, [], [(0, 10)]),  # of a longer set
    ],
)
def test_known_chunks_and_the_gaps_between_them(tmp_path, encoder, done, kept, missing):
    longer = [*TEXTS, "another"]
    sets = {"other": ["x"], "texts": longer}
    source = SentenceRows("fake", tuple(sets))
    chunks = []
    for at, count in done.items():
        texts = longer[at : at + count]
        chunks.append(TextChunk(f"001-{at:010d}-{at + count:010d}", texts, Texts.of(texts).digest()[:32]))
    Engine(tmp_path / "texts.fake.h5", source, "w", ShardSize(cost=4, save_every=1)).encode(chunks, Local(processes=1))
    bank = TextBank(tmp_path, "texts", sets | {"texts": TEXTS}, "fake", "d")
    encoder.encoded.clear()
    bank.write(chunk=100)
    assert encoder.encoded == ["x", *(text for start, stop in missing for text in TEXTS[start:stop])]
    names = [entry.id for entry in read_ledger(ledger_path(bank.path)) if entry.id.startswith("001")]
    assert [int(name.split("-")[1]) for name in names] == sorted([*kept, *(start for start, _ in missing)])
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def test_an_error_in_one_chunk_does_not_affect_the_other_chunks(tmp_path, encoder, monkeypatch):
    stream = type(encoder).stream

    def broken(self, texts, **options):
        for offset, rows in stream(self, texts, **options):
            if "sentence 4" in texts[offset : offset + len(rows)]:
                raise InputError("NaN of 'sentence 4'")
            yield offset, rows

    monkeypatch.setattr(type(encoder), "stream", broken)
    with pytest.raises(InputError, match="1 of 4 chunks"):
        bank_of(tmp_path).write(chunk=3)
    assert bank_of(tmp_path).texts_left() == 3


@pytest.mark.parametrize("sizes", [[3, 3, 3, 1], [1, 3, 3, 3], [2, 2, 1, 2, 2], [1, 2, 3, 4], [10]])
def test_chunks_of_equal_size_share_a_stream(sizes):
    bounds = np.cumsum([0, *sizes]).tolist()
    chunks = [TextChunk(str(start), TEXTS[start:stop], "") for start, stop in pairwise(bounds)]
    fake = FakeEncoder()
    found = [
        (one.item.id, [block.tolist() for block in one.blocks])
        for one in ChunkEncoder(fake).encode(chunks, lambda item: None)
    ]
    assert found == [(chunk.id, [[embed(text).tolist() for text in chunk.texts]]) for chunk in chunks]
    assert fake.encoded == TEXTS[: bounds[-1]]


@pytest.mark.parametrize("step", ["write_ledger", "remove_shards"])
def test_a_run_that_was_killed_after_its_bank_was_written_is_completed(tmp_path, encoder, monkeypatch, step):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, step, killed)
        with pytest.raises(KeyboardInterrupt):
            bank_of(tmp_path).write(chunk=3)
    before = (tmp_path / "texts.fake.h5").read_bytes()
    assert (tmp_path / ".texts.fake.shards").exists()
    bank_of(tmp_path).write(chunk=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert (tmp_path / "texts.fake.h5").read_bytes() == before
    assert len(read_ledger(ledger_path(tmp_path / "texts.fake.h5"))) == 4
    assert encoder.encoded == TEXTS


class WideEncoder(FakeEncoder):
    """Makes rows of 3 kB, those of a usual sentence encoder."""

    def __init__(self):
        super().__init__()
        self.dim = 768

    def stream(self, texts, chunk=8192, progress=True):
        for offset in range(0, len(texts), chunk):
            count = min(chunk, len(texts) - offset)
            yield offset, np.arange(offset, offset + count, dtype=np.float32)[:, None].repeat(self.dim, 1)


def peak_of_joining(folder, n_texts: int) -> int:
    """Return by how many bytes joining the chunks raises the anonymous memory of this process, at most."""
    rows_of, seen = engine._rows_of, []

    def watched(parts):
        for block in rows_of(parts):
            seen.append(anonymous_bytes())
            yield block

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "load_encoder", lambda name, device, batch_size: WideEncoder())
        patch.setattr(engine, "_rows_of", watched)
        bank_of(folder, map(str, range(n_texts))).write(chunk=2048)
    rows = FeatureBank.open(folder / "texts.fake.h5").video_rows("texts")
    assert torch.equal(rows[:, -1], torch.arange(n_texts).float())
    return max(seen) - seen[0]


def anonymous_bytes() -> int:
    [kilobytes] = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kilobytes)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_joining_takes_no_memory_a_text(tmp_path):
    """In copies of this process, so that neither changes the heap of the other; copied rows would take 3 kB a text."""
    few, many = (in_child(peak_of_joining, tmp_path / str(count), count) for count in (8192, 24_576))
    assert many - few < 500 * (24_576 - 8192)
