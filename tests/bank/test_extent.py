from pathlib import Path

import h5py
import numpy as np
import torch

from clep.bank import format as extent_module
from clep.bank.format import Extent, map_file

ROWS = np.arange(60, dtype=np.float32).reshape(10, 1, 6)


def extents(path: Path) -> dict[str, Extent]:
    with h5py.File(path, "w") as file:
        file["plain"] = ROWS
        file.create_dataset("chunked", data=ROWS, chunks=(2, 1, 6))
        file.create_dataset("foreign", data=ROWS, dtype=">f4")
        file.create_dataset("unwritten", shape=(10, 1, 6), dtype="f4")
    with h5py.File(path) as file:
        return {name: Extent.of(file[name], path, (10, 6)) for name in file}


def test_only_contiguous_native_bytes_can_be_mapped(tmp_path: Path) -> None:
    found = extents(tmp_path / "a.h5")
    assert {name for name, extent in found.items() if extent.offset is not None} == {"plain"}
    mapped = found["plain"].map(map_file(tmp_path / "a.h5"))
    assert mapped.dtype == torch.float32
    np.testing.assert_array_equal(mapped, ROWS[:, 0])
    # The tensor shares the file's pages: a byte changed in the file changes the tensor.
    with (tmp_path / "a.h5").open("r+b") as file:
        file.seek(found["plain"].offset or 0)
        file.write(np.float32(7).tobytes())
    assert mapped[0, 0] == 7


def test_blocks_are_consecutive(tmp_path: Path, monkeypatch) -> None:
    found = extents(tmp_path / "a.h5")
    monkeypatch.setattr(extent_module, "_READ_BYTES", 4 * 6 * 4)
    for name in ("plain", "chunked", "foreign"):
        starts, blocks = zip(*found[name].blocks(), strict=True)
        assert starts == (0, 4, 8)
        np.testing.assert_array_equal(np.concatenate(blocks), ROWS[:, 0])
