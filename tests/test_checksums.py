"""Checksums: any change of a value, its type or its shape changes the digest; the form in memory does not."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash

from clep.checksums import (
    block_digest,
    block_digests,
    check_digest,
    digest,
    file_digest,
    read_checked_json,
    warn_unverified,
    write_checked_json,
)
from clep.errors import InputError


def test_every_single_bit_counts() -> None:
    values = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    digests = {digest(values)}
    for bit in range(values.nbytes * 8):
        changed = values.copy()
        changed.view(np.uint8)[bit // 8] ^= 1 << bit % 8
        digests.add(digest(changed))
    assert len(digests) == values.nbytes * 8 + 1


def test_form_in_memory_does_not_count_but_type_and_shape_do() -> None:
    values = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert digest(values) == digest(values.astype(">i4")) == digest(np.asfortranarray(values))
    tensor = torch.from_numpy(values)
    assert digest(tensor) == digest(tensor.t().contiguous().t())
    others = [values.reshape(4, 3), values.astype(np.int64), values.view(np.float32), values.tobytes(), tensor]
    assert len({digest(value) for value in [values, *others]}) == 6


def test_where_one_value_ends_counts() -> None:
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest("ab", "c") != digest("a", "bc") != digest(b"a", b"bc")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.int64])
def test_tensors_of_any_type(dtype: torch.dtype) -> None:
    some = torch.tensor([[1, 0], [0, 1]]).to(dtype)
    assert digest(some) == digest(some.clone()) != digest(1 - some.to(torch.int64))
    assert digest(some[:0]) != digest(some[:1])
    assert digest(some[0, 0]) == digest(some[1, 1])


def test_blocks() -> None:
    rows = np.random.default_rng(1).standard_normal((10, 3)).astype(np.float16)
    stored = block_digests(rows, 4)
    assert stored.dtype == np.uint64
    assert stored.tolist() == [xxhash.xxh3_64(rows[i : i + 4].tobytes()).intdigest() for i in (0, 4, 8)]
    rows[5, 1] += 1
    assert (stored != block_digests(rows, 4)).tolist() == [False, True, False]
    assert block_digest(rows[:0]) == block_digest(b"")


def test_file_and_message(tmp_path: Path) -> None:
    path = tmp_path / "some.bin"
    path.write_bytes(b"x" * (1 << 20))
    assert file_digest(path) == xxhash.xxh3_128(path.read_bytes()).hexdigest()
    check_digest(path, "its content", file_digest(path), file_digest(path))
    with pytest.raises(InputError, match=r"some\.bin is damaged: its content .* checksum; download it again"):
        check_digest(path, "its content", file_digest(path), "0" * 32, "download it again")
    with pytest.raises(InputError, match=r"none\.bin cannot be read"):
        file_digest(tmp_path / "none.bin")


def test_one_warning_for_each_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for name in ("a.h5", "a.h5", "b.h5"):
            warn_unverified(tmp_path / name)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "a.h5" in caplog.text
    assert "write it again" in caplog.text


def test_objects_have_no_digest() -> None:
    with pytest.raises(TypeError, match="objects"):
        digest(np.array([{}], dtype=object))


def test_every_byte_of_a_checked_json_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    content = {"classes": ["open “fridge”", "b"], "sets": {"prompt": [["x"], ("y",)]}, "dim": 4, "share": 0.1}
    write_checked_json(path, content)
    as_read = content | {"sets": {"prompt": [["x"], ["y"]]}}
    assert read_checked_json(path) == as_read
    whole, same = path.read_bytes(), 0
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 4
        path.write_bytes(changed)
        try:
            assert read_checked_json(path) == as_read
            same += 1  # not seen: a character of layout became another one
        except InputError:
            pass
    assert same < 10


def test_a_json_file_without_a_checksum_opens_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "old.json"
    path.write_text('{"a": 1}')
    with caplog.at_level(logging.WARNING):
        assert read_checked_json(path) == {"a": 1}
    assert "old.json has no checksums" in caplog.text
    path.write_text("[1]")
    with pytest.raises(InputError, match=r"old\.json is not a JSON object; make it again"):
        read_checked_json(path, "make it again")
