import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.datasets import ego4d as module
from clep.datasets.ego4d import json_members
from clep.errors import InputError

VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    content=st.dictionaries(st.text(max_size=6), st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=5),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_equals_json_load_whatever_the_chunk(tmp_path_factory, content, chunk, indent, ascii_only) -> None:
    path = tmp_path_factory.mktemp("json") / "file.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), encoding="utf-8", errors="replace")
    expected = json.loads(path.read_text(encoding="utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        assert dict(json_members(path)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON object at its top"),
        ("[1]", "no JSON object at its top"),
        ('{"a": {"b": 1}, "c": {"d": ', "after the member 'a'.*cut off"),
        ('{"a": {"b": 1}', "after the member 'a'.*cut off"),
        ('{"a": ', "in the first member"),
        ('{"a": {} "b": {}}', "expected ','"),
        ('{"a": {}, 3: {}}', "not a string"),
        ('{"a": {}} {}', "more after the end"),
    ],
)
def test_broken_files_are_named_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"broken.json.*{message}"):
        list(json_members(path))


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        list(json_members(tmp_path / "none.json"))
    (tmp_path / "latin.json").write_bytes(b'{"caf\xe9": 1}')
    with pytest.raises(InputError, match=r"latin\.json is not utf-8"):
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
