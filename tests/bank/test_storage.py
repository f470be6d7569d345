from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import FeatureBank
from clep.bank.storage import _free_bytes, parse_device, parse_dtype
from clep.errors import InputError
from tests.bank.banks import edited, pretend_gpu, random_videos, write


def rechunked(path: Path, **options: object) -> Path:
    with edited(path) as file:
        rows = file["rows"][()]
        del file["rows"]
        file.create_dataset("rows", data=rows, **options)
    return path


@pytest.mark.parametrize("options", [{"chunks": (5, 6)}, {"compression": "gzip"}])
def test_rows_that_cannot_be_mapped_are_read_through_ram(tmp_path: Path, options: dict) -> None:
    videos = random_videos()
    path = rechunked(write(tmp_path / "b.h5", videos), **options)
    with pytest.raises(InputError, match=r"b\.h5: 'rows' is chunked, compressed.*device='cpu'.*BankWriter"):
        FeatureBank.open(path)
    bank = FeatureBank.open(path, "cpu")
    np.testing.assert_array_equal(bank.video_rows("v0_3"), videos["v0_3"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, "float32", "bfloat16"])
def test_rows_are_cast_on_loading(tmp_path: Path, dtype: str | torch.dtype) -> None:
    videos = random_videos()
    bank = FeatureBank.open(write(tmp_path / "b.h5", videos, dtype="float32"), "cpu", dtype)
    wanted = getattr(torch, str(dtype).removeprefix("torch."))
    assert bank.dtype == wanted
    for uid, rows in videos.items():
        assert bank.video_rows(uid).equal(torch.from_numpy(rows).to(wanted).float())


def test_disk_keeps_the_stored_dtype(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", random_videos())
    assert FeatureBank.open(path, dtype="float16").dtype == torch.float16
    with pytest.raises(InputError, match=r"b\.h5 stores float16.*device='cpu' or 'cuda' for dtype=float32"):
        FeatureBank.open(path, dtype="float32")


def test_values_too_large_for_the_requested_dtype(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", {"v": np.array([[1.0], [1e6]])}, dtype="float32")
    with pytest.raises(InputError, match=r"b\.h5 has values too large for float16"):
        FeatureBank.open(path, "cpu", "float16")


def test_shards_of_two_dtypes(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", {"a": np.ones((2, 2))})
    write(tmp_path / "b.h5", {"b": np.ones((2, 2))}, dtype="float32")
    for device in ("disk", "cpu"):
        with pytest.raises(InputError, match=r"a\.h5 stores float16, but .*b\.h5 float32"):
            FeatureBank.open(tmp_path, device)
    assert FeatureBank.open(tmp_path, "cpu", "float32").mean([0], [4]).tolist() == [[1.0, 1.0]]


def test_devices(tmp_path: Path) -> None:
    assert parse_device("disk") == ("disk", torch.device("cpu"))
    assert parse_device("lmdb") == ("lmdb", torch.device("cpu"))
    assert parse_device(torch.device("cpu")) == ("cpu", torch.device("cpu"))
    path = write(tmp_path / "b.h5", random_videos())
    for device in ("lmbd", "tpu:7", "meta"):
        with pytest.raises(InputError, match=rf"device='{device}' is unknown for a bank: choose 'disk'.*'cpu'.*'cuda'"):
            FeatureBank.open(path, device)
    with pytest.raises(InputError, match=r"this machine has \d+ GPUs"):
        FeatureBank.open(path, "cuda:99")


def test_dtypes() -> None:
    assert parse_dtype(None) is None
    assert parse_dtype("torch.float16") == parse_dtype(torch.float16) == torch.float16
    for dtype in ("int8", torch.float64):
        with pytest.raises(InputError, match="float16, bfloat16, float32"):
            parse_dtype(dtype)


# 1,500 rows of 6 in float16 are 18,000 bytes, nine tenths of 20,000.
@pytest.mark.parametrize("free", [19_999, 20_000], ids=["known before", "found out"])
def test_a_bank_that_does_not_fit_on_the_gpu_stays_on_disk_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, free: int
) -> None:
    values = np.random.default_rng(0).standard_normal((1500, 6)).astype(np.float16)
    path = write(tmp_path / "b.h5", {"v": values})
    pretend_gpu(monkeypatch, free)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu: 500)
    banks = [
        FeatureBank.open(path, device, dtype) for device in ("cuda", "cuda:0", "cuda") for dtype in (None, "float32")
    ]
    for bank in banks:
        assert (bank.storage, bank.device) == ("disk", torch.device("cpu"))
        assert bank.take([3, 1499]).equal(torch.from_numpy(values[[3, 1499]]).float())
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2  # one for each name of the GPU
    assert f"{path} needs 0.00 GiB on cuda, where 0.00 GiB are free: its rows are read from disk" in warnings[0]


def test_memory_that_pytorch_holds_unused_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, 1_000)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu: 300)
    assert _free_bytes(torch.device("cuda")) == 1_400


def test_a_bank_that_fits_neither_on_the_gpu_nor_into_a_map_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rechunked(write(tmp_path / "b.h5", random_videos()), compression="gzip")
    pretend_gpu(monkeypatch, 100)
    with pytest.raises(InputError, match=r"b\.h5 needs 0\.0 GiB on cuda.*device='disk'"):
        FeatureBank.open(path, "cuda")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [None, "bfloat16", "float32"])
def test_gathers_on_a_gpu_equal_those_in_ram(tmp_path: Path, dtype: str | None) -> None:
    path = write(tmp_path / "b.h5", random_videos(30))
    ram, gpu = FeatureBank.open(path, "cpu", dtype), FeatureBank.open(path, "cuda", dtype)
    video = torch.arange(30).repeat(50)
    start = torch.rand(1500, dtype=torch.float64) * 25
    for align in ("centre", "start"):
        windows = [bank.window(video.to(bank.device), start, start + 3, align) for bank in (ram, gpu)]
        assert all(mine.equal(theirs.cpu()) for mine, theirs in zip(*windows, strict=True))
        torch.testing.assert_close(ram.mean(*windows[0]), gpu.mean(*windows[1]).cpu(), rtol=2e-2, atol=1e-2)
        assert ram.rows(*windows[0], 4)[0].equal(gpu.rows(*windows[1], 4)[0].cpu())
    drawn = [
        bank.rows(*bank.window(video, start, start + 9), 3, "random", torch.Generator().manual_seed(3))[0]
        for bank in (ram, gpu)
    ]
    assert drawn[0].equal(drawn[1].cpu())
    lookups = [bank.long_term(video[:40], start[:40], 8, 2) for bank in (ram, gpu)]
    assert lookups[0][0].equal(lookups[1][0].cpu())
