import pickle
import threading

import numpy as np
import pytest
import torch

from clep.bank import FeatureBank
from clep.compute import Local, late_files
from clep.errors import InputError
from clep.extraction.coverage import read_coverage
from clep.extraction.text_embeddings import TextBank, text_bank_path
from clep.extraction.text_parts import TextParts, encode_as_tasks, save_part
from clep.text import Texts

from .conftest import FakeEncoder, embed

TEXTS = [f"sentence {number}" for number in range(10)]


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
    assert coverage["counts"] == {"continued_from": 0, "texts": 10, "sets": 1, "dim": 4, "encoder": "fake"}
    assert read_coverage(tmp_path / "texts.fake.h5")["counts"] == coverage["counts"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.fake.coverage.json", "texts.fake.h5"]


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
    assert len(list((tmp_path / ".texts.fake.parts").iterdir())) == 2
    assert bank_of(tmp_path).texts_left() == 4
    encoder.interrupt_after = None
    coverage = bank_of(tmp_path).write(chunk=chunk_after)
    assert coverage["counts"]["continued_from"] == 6
    assert encoder.encoded == TEXTS
    rows = FeatureBank.open(tmp_path / "texts.fake.h5").video_rows("texts")
    assert torch.equal(rows, FeatureBank.open(tmp_path / "whole" / "texts.fake.h5").video_rows("texts"))
    assert not (tmp_path / ".texts.fake.parts").exists()


def interrupted_with_a_gap(folder, encoder) -> None:
    """Leave the parts of the texts 0 to 2 and 6 to 8."""
    encoder.interrupt_after = 9
    with pytest.raises(KeyboardInterrupt):
        bank_of(folder).write(chunk=3)
    next(folder.glob(".texts.fake.parts/*0000000003.npy")).unlink()
    encoder.interrupt_after = None
    encoder.encoded.clear()


def test_parts_of_other_texts_are_not_taken_over(tmp_path, encoder):
    interrupted_with_a_gap(tmp_path, encoder)
    other = [*TEXTS, "more"]
    bank_of(tmp_path, other).write(chunk=3)
    assert encoder.encoded == other


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("compute", [None, Local(processes=1)])
def test_only_what_is_missing_between_parts_is_encoded(tmp_path, encoder, chunk, compute):
    interrupted_with_a_gap(tmp_path, encoder)
    assert bank_of(tmp_path).texts_left() == 4
    assert bank_of(tmp_path).write(chunk=chunk, compute=compute)["counts"]["continued_from"] == 6
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.fake.coverage.json", "texts.fake.h5"]


def test_what_other_tasks_made_is_kept_when_one_fails(tmp_path, encoder, monkeypatch):
    stream = type(encoder).stream

    def broken(self, texts, **options):
        if "sentence 4" in list(texts):
            raise InputError("the model makes NaN of 'sentence 4'")
        return stream(self, texts, **options)

    monkeypatch.setattr(type(encoder), "stream", broken)
    with pytest.raises(InputError, match=r"1 of 4 tasks .*same command again.*NaN of 'sentence 4'"):
        bank_of(tmp_path).write(chunk=3, compute=Local(processes=1))
    assert not (tmp_path / "texts.fake.h5").exists()
    assert bank_of(tmp_path).texts_left() == 3
    monkeypatch.setattr(type(encoder), "stream", stream)
    encoder.encoded.clear()
    bank_of(tmp_path).write(chunk=3, compute=Local(processes=1))
    assert encoder.encoded == TEXTS[3:6]
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def test_rows_are_never_shifted_by_a_part_that_does_not_show(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(late_files, "LATE_S", 0.05)
    hidden = tmp_path / "hidden.npy"

    class Late(Local):
        def run(self, function, tasks, log_folder, watch=None):
            failed = super().run(function, tasks, log_folder, watch)
            next(iter(tasks.values())).pieces[0][0].rename(hidden)
            return failed

    with pytest.raises(InputError, match=r"\.texts\.fake\.parts does not show all parts .*same command again"):
        bank_of(tmp_path).write(chunk=3, compute=Late(processes=1))
    assert not (tmp_path / "texts.fake.h5").exists()
    encoder.encoded.clear()
    bank_of(tmp_path).write(chunk=3, compute=Local(processes=1))
    assert encoder.encoded == TEXTS[:3]
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def test_a_part_that_shows_late_is_waited_for(tmp_path, encoder):
    class Late(Local):
        def run(self, function, tasks, log_folder, watch=None):
            failed = super().run(function, tasks, log_folder, watch)
            part = next(iter(tasks.values())).pieces[0][0]
            part.rename(tmp_path / "hidden.npy")
            threading.Timer(0.1, (tmp_path / "hidden.npy").rename, [part]).start()
            return failed

    bank_of(tmp_path).write(chunk=3, compute=Late(processes=1))
    assert rows_of(tmp_path) == [embed(text).tolist() for text in TEXTS]


def test_a_task_has_its_own_texts_only_and_few_tasks_have_many_parts(tmp_path):
    sizes: list[int] = []
    pickled: list[int] = []

    class Compute:
        def run(self, function, tasks, log_folder, watch):
            sizes.extend(len(task.pieces) for task in tasks.values())
            pickled.extend(len(pickle.dumps(task)) for task in tasks.values())
            return dict.fromkeys(tasks, "not done here")

    texts = Texts.of(f"text number {number:06d}" for number in range(20_000))
    with pytest.raises(InputError, match="not done here"):
        TextBank(tmp_path, "texts", {"texts": texts}, "fake", "d").write(chunk=4, compute=Compute())
    assert (sum(sizes), set(sizes)) == (5000, {8, 16})
    assert max(pickled) < 20_000, "all texts together have 360,000 bytes"
    sizes.clear()
    with pytest.raises(InputError, match="not done here"):
        TextBank(tmp_path, "texts", {"texts": texts}, "fake", "d").write(chunk=1500, compute=Compute())
    assert sizes == [2] * 7


def test_several_sets_lie_one_after_the_other(tmp_path, encoder):
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


def test_two_processes_make_the_parts_that_one_makes(tmp_path):
    parts = {}
    for processes in (1, 2):
        made = TextParts(tmp_path / str(processes), "key")
        encode_as_tasks(made, [Texts.of(TEXTS), ["a", "b"]], 3, FakeEncoder, Local(processes=processes))
        parts[processes] = {path.name: np.load(path).tolist() for path in made.folder.glob("*.npy")}
    assert len(parts[1]) == 5
    assert parts[1] == parts[2]
    assert parts[1]["key-000-0000000003.npy"] == [embed(text).tolist() for text in TEXTS[3:6]]


@pytest.mark.parametrize(
    ("files", "kept", "missing"),
    [
        ({}, [], [(0, 10)]),
        ({0: 4, 4: 6}, [0, 4], []),
        ({4: 2}, [4], [(0, 4), (6, 10)]),
        ({0: 5, 3: 4, 8: 1}, [0, 8], [(5, 8), (9, 10)]),
    ],
)
def test_parts_that_are_there_and_what_they_lack(tmp_path, files, kept, missing):
    parts = TextParts(tmp_path, "key")
    for start, n_rows in files.items():
        save_part(parts.path(2, start), np.zeros((n_rows, 3), np.float32))
    save_part(parts.path(1, 0), np.zeros((10, 3), np.float32))
    assert [part.start for part in parts.of_set(2)] == kept
    assert parts.missing(2, 10) == missing
    assert parts.dim() == 3
