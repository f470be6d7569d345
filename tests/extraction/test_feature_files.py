import copy
import os
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.errors import InputError
from clep.extraction.feature_files import (
    FeatureFileError,
    checked_rows,
    feature_files,
    most_common_dim,
    open_features,
    read_shapes,
)
from tests.preprocess.conftest import RunsCode, canary

__all__ = ["canary"]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (5, 1, 3)])
def test_reads_both_shapes_in_both_formats(tmp_path, shape, legacy):
    tensor = torch.randn(shape)
    torch.save(tensor, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert torch.equal(open_features(tmp_path / "a.pt"), tensor.reshape(5, 3))


def test_reads_npy_and_keeps_its_format(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float16)
    np.save(tmp_path / "a.npy", array)
    rows = open_features(tmp_path / "a.npy")
    assert rows.dtype == torch.float16
    assert np.array_equal(rows.numpy(), array)


def test_values_of_both_byte_orders_are_read(tmp_path):
    values = np.arange(6.0).reshape(3, 2)
    for order in "<>":
        np.save(tmp_path / "a.npy", values.astype(f"{order}f4"))
        np.savez(tmp_path / "a.npz", values.astype(f"{order}f8"))
        for name in ("a.npy", "a.npz"):
            np.testing.assert_array_equal(open_features(tmp_path / name).numpy(), values)


def test_a_vector_is_one_row_only_where_allowed(tmp_path):
    torch.save(torch.arange(3.0), tmp_path / "a.pt")
    assert open_features(tmp_path / "a.pt", allow_vector=True).tolist() == [[0.0, 1.0, 2.0]]
    with pytest.raises(FeatureFileError, match=r"shape \(3,\)"):
        open_features(tmp_path / "a.pt")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_unreadable(tmp_path, legacy, kept):
    whole = tmp_path / "whole.pt"
    torch.save(torch.randn(50, 30), whole, _use_new_zipfile_serialization=not legacy)
    content = whole.read_bytes()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(FeatureFileError, match=r"cut\.pt") as caught:
        open_features(cut)
    assert caught.value.kind == "unreadable"


def test_a_truncated_npy_is_unreadable(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((50, 30)))
    content = (tmp_path / "a.npy").read_bytes()
    for kept in (0, 5, 200):
        (tmp_path / "a.npy").write_bytes(content[:kept])
        with pytest.raises(FeatureFileError) as caught:
            open_features(tmp_path / "a.npy")
        assert caught.value.kind == "unreadable"


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pt_that_pickles_code_is_refused_and_not_run(tmp_path, canary, legacy):
    torch.save(RunsCode(), tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(FeatureFileError, match=r"would run posix\.system") as caught:
        open_features(tmp_path / "evil.pt")
    assert caught.value.kind == "unsafe_pickle"
    assert not canary.exists()


def test_a_npy_that_pickles_code_is_refused_and_not_run(tmp_path, canary):
    np.save(tmp_path / "evil.npy", np.array([RunsCode()], dtype=object), allow_pickle=True)
    with pytest.raises(FeatureFileError) as caught:
        open_features(tmp_path / "evil.npy")
    assert caught.value.kind == "unsafe_pickle"
    assert not canary.exists()


@pytest.mark.parametrize("content", [b"", b"<html>Access denied</html>", b"hello world" * 20, b"PK\x03\x04 no zip"])
def test_other_content_in_a_pt_is_unreadable(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(FeatureFileError) as caught:
        open_features(tmp_path / "a.pt")
    assert caught.value.kind == "unreadable"


@pytest.mark.parametrize(
    "value",
    [{"a": torch.ones(2, 2), "b": torch.ones(2)}, [torch.ones(2, 2)] * 2, {"a": 3},
     torch.ones(2, 2, dtype=torch.int64), torch.ones(2, 2, 2),
     torch.ones(0, 4), torch.ones(4, 0), torch.eye(3).to_sparse()],
)  # fmt: skip
def test_other_contents_have_the_wrong_shape(tmp_path, value):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(FeatureFileError) as caught:
        open_features(tmp_path / "a.pt")
    assert caught.value.kind == "wrong_shape"


@pytest.mark.parametrize("value", [{"a": torch.ones(2, 3), "fps": 2.0}, [torch.ones(2, 3)], torch.ones(1, 2, 3)])
def test_the_only_tensor_of_a_dict_or_list_is_read(tmp_path, value):
    torch.save(value, tmp_path / "a.pt")
    assert torch.equal(open_features(tmp_path / "a.pt"), torch.ones(2, 3))


def test_rows_that_are_not_numbers_are_refused_unless_allowed():
    value = torch.ones(4, 2)
    value[1, 0], value[3, 1] = float("nan"), float("inf")
    with pytest.raises(FeatureFileError, match="2 of 4 rows hold NaN or infinity") as caught:
        checked_rows("a.pt", value, 2, "float16")
    assert caught.value.kind == "not_finite"
    assert checked_rows("a.pt", value, 2, "float16", allow_nonfinite=True).isnan().sum() == 1


def test_values_beyond_float16_are_distinguished_from_nan():
    value = torch.tensor([[1.0, 70000.0]])
    with pytest.raises(FeatureFileError, match="too large for float16: pass dtype=float32"):
        checked_rows("a.pt", value, 2, "float16", allow_nonfinite=True)
    assert checked_rows("a.pt", value, 2, "float32").tolist() == value.tolist()


def test_another_dim_is_refused():
    with pytest.raises(FeatureFileError, match="dim 3, but the others have 2") as caught:
        checked_rows("a.pt", torch.ones(1, 3), 2, "float16")
    assert caught.value.kind == "other_dim"


def test_the_folder_is_listed_sorted_and_without_other_files(tmp_path):
    for name in ("b.pt", "a.npy", "notes.txt", ".hidden.pt"):
        (tmp_path / name).write_bytes(b"x")
    assert list(feature_files(tmp_path)) == ["a", "b"]
    (tmp_path / "a.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"both a\.npy and a\.pt"):
        feature_files(tmp_path)


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        feature_files(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no \.pt, \.npy"):
        feature_files(tmp_path)


def common_dim(files: dict[str, Path], allow_vector: bool = False) -> int | None:
    return most_common_dim(files, read_shapes(files, allow_vector), allow_vector)


def test_the_dim_of_most_files_counts(tmp_path):
    for name, dim in (("a", 5), ("b", 3), ("c", 3)):
        torch.save(torch.ones(2, dim), tmp_path / f"{name}.pt")
    (tmp_path / "d.pt").write_bytes(b"")
    assert common_dim(feature_files(tmp_path)) == 3
    assert common_dim({"d": tmp_path / "d.pt"}) is None


@pytest.mark.parametrize("dims", [[(20, 4), (200, 8)], [(200, 8), (20, 4)]])
@pytest.mark.parametrize("legacy", [False, True])
def test_the_dim_of_most_files_is_not_that_of_the_first(tmp_path, dims, legacy):
    for letter, (count, dim) in zip("ab", dims, strict=True):
        for number in range(count):
            path = tmp_path / f"{letter}{number:03}.pt"
            torch.save(torch.ones(6, dim), path, _use_new_zipfile_serialization=not legacy)
    assert common_dim(feature_files(tmp_path)) == 8


def test_the_dim_of_most_files_where_many_cannot_be_read_or_have_another_format(tmp_path):
    for number in range(40):
        (tmp_path / f"a{number:02}.pt").write_bytes(b"PK\3\4 cut off")
    for number in range(35):
        np.save(tmp_path / f"b{number:02}.npy", np.ones((3, 5), np.float32))
        torch.save(torch.ones(3, 6), tmp_path / f"c{number:02}.pt")
    np.save(tmp_path / "d.npy", np.ones((3, 5), np.float16))
    assert common_dim(feature_files(tmp_path)) == 5
    for number in range(5):
        torch.save(torch.ones(7), tmp_path / f"e{number}.pt")  # a vector is no row unless that is allowed
    assert common_dim(feature_files(tmp_path), allow_vector=True) == 5


def refused(path, match: str, **options) -> FeatureFileError:
    """Return the error of a file, which must come without much memory or time."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(FeatureFileError, match=match) as caught:
            open_features(path, **options)
        assert tracemalloc.get_traced_memory()[1] < 50e6
        assert time.process_time() - started < 2
    finally:
        tracemalloc.stop()
    return caught.value


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shape", [(128 * 10**9, 1), (128 * 10**6, 1, 1000), (10**6, 10**6)])
def test_strides_of_zero_are_refused_before_anything_is_allocated(tmp_path, shape, legacy):
    torch.save(torch.ones(1).expand(shape), tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert (tmp_path / "a.pt").stat().st_size < 3000
    refused(tmp_path / "a.pt", "claims .* in a file of")


def test_a_legacy_file_that_declares_a_larger_storage_than_itself(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(torch.ones(1000, 250), path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    count = b"J" + struct.pack("<i", 250_000)  # the opcode of an integer of four bytes
    assert content.count(count) == 1
    path.write_bytes(content.replace(count, b"\x8a\x06" + (10**12).to_bytes(6, "little")))
    refused(path, r"claims a tensor of 1,000,000,000,000 elements")


def test_a_compressed_zip_is_refused(tmp_path):
    torch.save(torch.zeros(1000, 1000), tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for record in stored.infolist():
            packed.writestr(record.filename, stored.read(record))
    assert (tmp_path / "a.pt").stat().st_size < 10_000
    assert refused(tmp_path / "a.pt", "compressed zip.*torch.save").kind == "unreadable"


def test_records_that_share_their_bytes_are_refused(tmp_path):
    """A zip bomb without compression: its directory names one record many times."""
    torch.save(torch.ones(5000, 8), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
        for number in range(200):
            again = copy.copy(record)
            again.filename = f"{record.filename}{number}"
            archive.filelist.append(again)
        archive._didModify = True
    refused(tmp_path / "a.pt", "claims records larger than the file")


@pytest.mark.parametrize("crc", [True, False])
def test_a_flipped_bit_in_the_values_is_detected_when_packing(tmp_path, crc):
    path = tmp_path / "a.pt"
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(crc)
    try:
        torch.save(torch.ones(50, 8), path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(open_features(path, verify=True), torch.ones(50, 8))
    content = bytearray(path.read_bytes())
    content[content.index(np.ones(400, np.float32).tobytes()) + 100] ^= 1
    path.write_bytes(content)
    if crc:
        assert refused(path, "Bad CRC-32", verify=True).kind == "unreadable"
    else:
        open_features(path, verify=True)  # saved without checksums: nothing to compare


def test_other_entries_of_a_folder_are_ignored(tmp_path):
    (tmp_path / "sub.pt").mkdir()
    (tmp_path / "dead.pt").symlink_to(tmp_path / "nowhere.pt")
    os.mkfifo(tmp_path / "pipe.npy")
    torch.save(torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]), tmp_path / "nested.pt")
    torch.save(torch.ones(2, 3, device="meta"), tmp_path / "meta.pt")
    kinds = {name: refused(path, "").kind for name, path in feature_files(tmp_path).items()}
    assert kinds == {
        "dead": "unreadable", "meta": "wrong_shape", "nested": "wrong_shape", "pipe": "unreadable", "sub": "unreadable",
    }  # fmt: skip
    assert common_dim(feature_files(tmp_path)) is None


def test_names_that_are_no_utf8_become_printable_ids(tmp_path):
    torch.save(torch.ones(2, 3), tmp_path / "bad\udce9.pt")
    assert list(feature_files(tmp_path)) == ["bad\\xe9"]
