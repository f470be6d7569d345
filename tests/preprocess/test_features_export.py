"""Features for NLQ and MQ: a file a video or clip, with rate and dimension."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock
from clep.errors import InputError
from clep.files import read_json
from clep.preprocess.features_export import FeaturesExport


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    found = {name: random.standard_normal((size, 3)).astype(np.float32) for name, size in (("a", 7), ("b", 4))}
    with BankWriter(tmp_path / "bank.h5", 3, Clock(2.0, 0.5), "float32", encoder="tiny") as writer:
        for name, block in found.items():
            writer.add(name, block)
    return found


def read(path: Path, kind: str) -> np.ndarray:
    return np.load(path) if kind == "npy" else torch.load(path, weights_only=True).numpy()


@pytest.mark.parametrize("kind", ["npy", "pt"])
def test_a_file_a_video(tmp_path: Path, rows: dict[str, np.ndarray], kind: str) -> None:
    out = tmp_path / "out"
    job = FeaturesExport(bank=tmp_path / "bank.h5", output=out, format=kind)
    assert job.run()["counts"] == {"features": 2, "rows": 11}
    for name, block in rows.items():
        np.testing.assert_array_equal(read(out / f"{name}.{kind}", kind), block)
    about = read_json(out / "features.json")
    assert (about["rows_per_second"], about["row_seconds"], about["dim"], about["encoder"]) == (2, 0.5, 3, "tiny")
    assert about["features"]["a"] == {"rows": 7, "start_s": 0, "duration_s": None}
    assert job.run() == {"up_to_date": True}


def test_the_rows_of_clips(tmp_path: Path, rows: dict[str, np.ndarray]) -> None:
    (tmp_path / "clips.csv").write_text("clip,video,start,end\nx,a,1.0,2.5\ny,b,0,1\nz,c,0,1\n")
    job = FeaturesExport(bank=tmp_path / "bank.h5", output=tmp_path / "out", clips=tmp_path / "clips.csv")
    assert job.run()["lists"]["clips_without_video"] == ["z"]
    np.testing.assert_array_equal(np.load(tmp_path / "out/x.npy"), rows["a"][2:5])
    np.testing.assert_array_equal(np.load(tmp_path / "out/y.npy"), rows["b"][:2])
    about = read_json(tmp_path / "out/features.json")["features"]
    assert about == {
        "x": {"rows": 3, "start_s": 1.0, "duration_s": 1.5}, "y": {"rows": 2, "start_s": 0.0, "duration_s": 1.0}
    }  # fmt: skip


def test_one_lmdb(tmp_path: Path, rows: dict[str, np.ndarray]) -> None:
    lmdb = pytest.importorskip("lmdb")
    FeaturesExport(bank=tmp_path / "bank.h5", output=tmp_path / "out", format="lmdb").run()
    with lmdb.open(str(tmp_path / "out/features.lmdb"), subdir=False, readonly=True, lock=False) as environment:
        with environment.begin() as transaction:
            found = {key.decode(): np.load(io.BytesIO(value))["features"] for key, value in transaction.cursor()}
    assert found.keys() == rows.keys()
    for name, block in rows.items():
        np.testing.assert_array_equal(found[name], block)


def test_what_cannot_be_exported_is_refused(tmp_path: Path, rows: dict[str, np.ndarray]) -> None:
    (tmp_path / "clips.csv").write_text("clip,video,start,end\nx,c,1.0,2.5\n")
    with pytest.raises(InputError, match="has the video of none of the 1 clips"):
        FeaturesExport(bank=tmp_path / "bank.h5", output=tmp_path / "o", clips=tmp_path / "clips.csv").run()
    with BankWriter(tmp_path / "odd.h5", 3, Clock(), "float32") as writer:
        writer.add("a/b", rows["a"])
    with pytest.raises(InputError, match="'a/b' .* cannot be the name of a file"):
        FeaturesExport(bank=tmp_path / "odd.h5", output=tmp_path / "o").run()
    with BankWriter(tmp_path / "texts.h5", 3, None, "float32") as writer:
        writer.add("texts", rows["a"])
    with pytest.raises(InputError, match="is a bank of texts"):
        FeaturesExport(bank=tmp_path / "texts.h5", output=tmp_path / "o").run()
