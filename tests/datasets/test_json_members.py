import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.datasets import json_members as module
from clep.datasets.json_members import json_members
from clep.errors import InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    content=st.dictionaries(TEXT, st.dictionaries(TEXT, VALUES, max_size=3), max_size=5),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_equals_json_load_for_any_chunk_size(tmp_path_factory, content, chunk, indent, ascii_only) -> None:
    path = tmp_path_factory.mktemp("json") / "file.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), encoding="utf-8", errors="replace")
    expected = json.loads(path.read_text(encoding="utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        assert dict(json_members(path)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ('{"a": {"b": 1}, "c": {"d": ', "after the member 'a'.*cut off"),
        ('{"a": {"b": 1}', "after the member 'a'.*cut off"),
        ('{"a": ', "in the first member"),
        ('{"a": {} "b": {}}', "expected ','"),
        ('{"a": {}, 3: {}}', "not a string"),
        ('{"a": {}} {}', "text after the end"),
        ('{"a": {}, "b": {}, "a": {}}', "after the member 'b'.*duplicate key 'a'"),
        ('{"a": {}, "b": [{"c": 1, "d": 2, "c": 3}]}', "after the member 'a'.*the key 'c' .*twice"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a": ' + '{"a":' * 100_000, "nested too deeply"),
        ('{"a": 1' + "0" * 400 + "}", "more than 64 bits"),
        ('{"a": [-1' + "0" * 100_000 + "]}", "more than 64 bits"),
        ('{"a": {}, "b": "x\\ud83d"}', "after the member 'a'.*surrogate"),
        ('{"a\\u0000": {}}', "NUL"),
    ],
)
def test_broken_files_are_named_with_the_position(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"broken.json.*{message}"):
        list(json_members(path))


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(json_members(tmp_path / "none.json"))
    (tmp_path / "latin.json").write_bytes(b'{"caf\xe9": 1}')
    with pytest.raises(InputError, match=r"latin\.json is not UTF-8"):
        list(json_members(tmp_path / "latin.json"))


def test_an_early_error_does_not_read_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    monkeypatch.setattr(module, "_MARGIN", 100)
    path = tmp_path / "early.json"
    path.write_text('{"a": {oops ' + "x" * 1_000_000)
    reads = []

    class Counted(module._Reader):
        def more(self) -> bool:
            reads.append(len(self.text))
            return super().more()

    monkeypatch.setattr(module, "_Reader", Counted)
    with pytest.raises(InputError):
        list(json_members(path))
    assert len(reads) == 1


def test_pairs_of_surrogates_are_characters(tmp_path: Path) -> None:
    (tmp_path / "smile.json").write_text('{"a": "\\ud83d\\ude00"}')
    assert dict(json_members(tmp_path / "smile.json")) == {"a": "\U0001f600"}


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match=str(path)):
            list(json_members(path))
