import json
import os
import pickle
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from clep.checksums import digest
from clep.columns import buffers
from clep.errors import InputError
from clep.text import GroupIds, Narrations, NarrationTable, Texts
from tests.in_child import in_child
from tests.text.sample_table import about, passes, table

COLUMNS = ("duration_s", "redacted", "video", "second", "passes", "text_id", "written_id", "words")


@pytest.fixture
def small(tmp_path: Path) -> NarrationTable:
    narrations = {
        "b": passes([(3, "#C C cuts bread"), (1, "#unsure falls")], [(1.5, "#C C cuts  bread")]),
        "é": passes([(0, "#C C says “olé”")], status="redacted"),
        "c": passes(),
    }
    return table(tmp_path, narrations, [about("b", 9.5, em="train"), about("é", None, av="test")])


def million(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    video = np.sort(rng.integers(0, 10_000, count)).astype(np.int32)
    texts = Texts.of(f"Camera wearer does number {i}" for i in range(5_000))
    text_id = rng.integers(0, 5_000, count).astype(np.int32)
    NarrationTable(
        videos=tuple(f"{i:08d}" for i in range(10_000)),
        duration_s=np.full(10_000, 100.0),
        splits={name: np.full(10_000, "") for name in ("split_em", "split_fho", "split_av")},
        redacted=np.zeros(10_000, dtype=bool),
        video=video,
        second=np.arange(count, dtype=np.float64),
        passes=np.ones(count, dtype=np.int8),
        text_id=text_id,
        written_id=text_id,
        texts=texts,
        written=texts,
        words=np.full(count, 3, dtype=np.int16),
    ).write(path)


def same(opened: Narrations, made: NarrationTable) -> None:
    for name in COLUMNS:
        read, expected = getattr(opened, name), getattr(made, name)
        assert read.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected)
    assert opened.videos == made.videos
    assert {name: split.tolist() for name, split in opened.splits.items()} == {
        name: split.tolist() for name, split in made.splits.items()
    }
    assert opened.texts == made.texts
    assert opened.written == made.written
    assert (len(opened), opened.tag_style, opened.digest) == (len(made), made.tag_style, made.digest)
    assert opened.report == made.report


@pytest.mark.parametrize("again", [False, True])
def test_reads_the_written_table(small: NarrationTable, tmp_path: Path, again: bool) -> None:
    small.write(tmp_path / "n.arrow")
    opened = Narrations.open(tmp_path / "n.arrow")
    same(pickle.loads(pickle.dumps(opened)) if again else opened, small)


def test_columns_are_read_only_views_of_the_file(small: NarrationTable, tmp_path: Path) -> None:
    small.write(tmp_path / "n.arrow")
    opened = Narrations.open(tmp_path / "n.arrow")
    for name in ("video", "second", "text_id"):
        assert not getattr(opened, name).flags.writeable
        assert not getattr(opened, name).flags.owndata
        assert getattr(opened, name).flags.aligned


def test_opening_a_million_narrations_reads_nothing_but_the_header(tmp_path: Path) -> None:
    million(tmp_path / "n.arrow", 1_000_000)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        opened = Narrations.open(tmp_path / "n.arrow")
        times.append(time.perf_counter() - begin)
    assert len(opened) == 1_000_000
    assert not {"video", "texts", "videos", "splits"} & opened.__dict__.keys()
    assert min(times) < 0.02
    assert len(pickle.dumps(opened)) < 500
    assert opened.texts[opened.text_id[999_999]].startswith("Camera wearer does number ")


def test_replacing_the_file_does_not_affect_an_open_one(small: NarrationTable, tmp_path: Path) -> None:
    path = tmp_path / "n.arrow"
    small.write(path)
    opened = Narrations.open(path)
    million(path, 10)
    same(opened, small)


@pytest.mark.parametrize("again", [False, True])
def test_spans_verbs_and_nouns(tmp_path: Path, again: bool) -> None:
    million(tmp_path / "n.arrow", 1000)
    table = Narrations.open(tmp_path / "n.arrow")
    rng = np.random.default_rng(1)
    verbs = GroupIds.of(rng.integers(0, 9, rng.integers(0, 4)).tolist() for _ in table.texts)
    nouns = GroupIds.of([number] for number in range(len(table.texts)))
    columns = {name: getattr(table, name) for name in NarrationTable.__dataclass_fields__}
    columns |= {"start_s": table.second, "end_s": table.second + 2, "verbs": verbs, "nouns": nouns}
    NarrationTable(**columns).write(tmp_path / "n.arrow")
    read = Narrations.open(tmp_path / "n.arrow")
    read = pickle.loads(pickle.dumps(read)) if again else read
    np.testing.assert_array_equal(read.start_s, table.second)
    np.testing.assert_array_equal(read.end_s, table.second + 2)
    used = set(table.text_id.tolist())
    for text in range(0, len(table.texts), 7):
        assert read.verbs[text] == (verbs[text] if text in used else [])
        assert read.nouns[text] == ([text] if text in used else [])


def rewritten(path: Path, change) -> None:
    """Write the file again with a changed header or columns; checksums fit unless `change` changes them."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
        table = change(table)
        content = pa.BufferOutputStream()
        with pa.ipc.new_file(content, table.schema) as writer:
            writer.write_table(table)
    path.write_bytes(content.getvalue())


def with_header(change) -> object:
    def rewrite(table: pa.Table) -> pa.Table:
        header = json.loads(table.schema.metadata[b"clep"])
        change(header)
        encoded = json.dumps(header)
        metadata = {**table.schema.metadata, b"clep": encoded, b"clep.checksum": digest(encoded)}
        return table.replace_schema_metadata(metadata)

    return rewrite


@pytest.mark.parametrize("key", ["format", "version", "digest"])
def test_other_formats_are_refused(small: NarrationTable, tmp_path: Path, key: str) -> None:
    path = tmp_path / "n.arrow"
    small.write(path)
    rewritten(path, with_header(lambda header: header.pop(key)))
    with pytest.raises(InputError, match=rf"n\.arrow (has|lacks) .*{key}.*clep\.preprocess ego4d_narrations"):
        Narrations.open(path)


def test_missing_columns_and_columns_of_another_dtype(small: NarrationTable, tmp_path: Path) -> None:
    path = tmp_path / "n.arrow"
    small.write(path)
    rewritten(path, lambda table: table.drop_columns("second"))
    with pytest.raises(InputError, match=r"n\.arrow has no column 'second'.*clep\.preprocess"):
        Narrations.open(path)
    small.write(path)
    rewritten(path, lambda table: table.set_column(1, "second", table["second"].cast(pa.float32())))
    with pytest.raises(InputError, match=r"n\.arrow: column 'second' is float"):
        Narrations.open(path)


def replaced(column: str, values: np.ndarray):
    """Change values together with their checksum, as another program might."""

    def rewrite(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(column)
        field = table.schema.field(index)
        changed = pa.array(values)
        if pa.types.is_dictionary(field.type):
            old = table.column(index).chunk(0)
            changed = pa.DictionaryArray.from_arrays(changed, old.dictionary, safe=False)
        table = table.set_column(index, field, changed)
        checksum = digest(*buffers(changed))
        return with_header(lambda header: header["checksums"].update({column: checksum}))(table)

    return rewrite


WRONG = {
    "second": ("second", np.array([np.nan, 1, 1.5, 3]), "second"),
    "order": ("second", np.array([0, 3, 1.5, 1]), "second"),
    "video": ("video", np.array([0, 0, 0, 7], np.int32), "video"),
    "text": ("text", np.array([0, 0, -1, 1], np.int32), "text_id"),
    "written": ("written", np.array([0, 0, 99, 1], np.int32), "written_id"),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_values_with_valid_checksums(small: NarrationTable, tmp_path: Path, name: str) -> None:
    column, values, attribute = WRONG[name]
    path = tmp_path / "n.arrow"
    small.write(path)
    rewritten(path, replaced(column, values.astype(getattr(small, attribute).dtype)))
    with pytest.raises(InputError, match=rf"n\.arrow.*column '{column}'.*clep\.preprocess"):
        getattr(Narrations.open(path), attribute)


def test_missing_truncated_and_foreign_files(small: NarrationTable, tmp_path: Path) -> None:
    path = tmp_path / "n.arrow"
    with pytest.raises(InputError, match=r"n\.arrow does not exist.*clep\.preprocess ego4d_narrations"):
        Narrations.open(path)
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"n\.arrow.* is not a file"):
        Narrations.open(path)
    path.unlink()
    small.write(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cannot be read as Arrow"):
            Narrations.open(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="cannot be read as Arrow"):
        Narrations.open(path)
    with pytest.raises(TypeError, match=r"Narrations\.open"):
        Narrations()


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """Flip one bit, or set 64 bytes to zero, as after a lost write."""
    content = bytearray(whole)
    position = rng.randrange(len(content))
    if rng.random() < 0.7:
        content[position] ^= 1 << rng.randrange(8)
    else:
        content[position : position + 64] = bytes(len(content[position : position + 64]))
    return bytes(content)


@pytest.mark.parametrize("times", [300, pytest.param(600, marks=pytest.mark.slow)])
def test_damage_raises_and_never_gives_wrong_values(small: NarrationTable, tmp_path: Path, times: int) -> None:
    """In a child process, so that a crash is detected."""
    path = tmp_path / "n.arrow"
    small.write(path)
    assert in_child(fuzz, path, times) > times // 2


def fuzz(path: Path, count: int) -> int:
    """Damage a file `count` times; return how often it was refused. Otherwise all its values must be right."""
    before, whole, rng = contents(path), path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(count):
        path.write_bytes(damaged(whole, rng))
        try:
            assert contents(path) == before
        except InputError:
            refused += 1
    return refused


def contents(path: Path) -> list[object]:
    read = Narrations.open(path)
    read.verify()
    columns = [getattr(read, name) for name in COLUMNS]
    plain = [(column.dtype.str, np.nan_to_num(column, nan=-1).tolist()) for column in columns]
    splits = {name: split.tolist() for name, split in read.splits.items()}
    return [*plain, read.videos, splits, list(read.texts), list(read.written), read.digest, read.report, read.tag_style]
