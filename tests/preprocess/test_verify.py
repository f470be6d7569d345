from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clep.bank import build_lmdb
from clep.errors import InputError
from clep.models import write_checkpoint
from clep.preprocess.__main__ import main
from clep.preprocess.verify import Verify
from tests.bank.banks import edited, random_videos, write
from tests.data.tiny_regions import write_regions
from tests.evaluation.tiny_clips import write_kinetics
from tests.text.sample_table import passes
from tests.text.sample_table import table as narration_table
from tests.training.tiny_run import tiny_model


def damage(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 16
    path.write_bytes(bytes(data))


def test_a_file_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lmdb")
    bank = write(tmp_path / "deep" / "b.h5", random_videos(dim=512))
    build_lmdb(bank)
    with edited(write(tmp_path / "old.h5", random_videos())):
        pass
    (tmp_path / "notes.txt").write_text("hello")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(3)
    assert main(["verify", f"path={tmp_path}"]) == 0
    assert Verify(path=bank).run() == {"intact": 1, "without_checksums": 0}
    assert Verify(path=[str(bank), str(tmp_path / "old.h5")]).run() == {"intact": 1, "without_checksums": 1}
    assert Verify(path=tmp_path).run() == {"intact": 2, "without_checksums": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "notes.txt", "old.h5", "other.h5"]
    damage(bank, 0.6)
    damage(bank.with_suffix(".lmdb"), 0.01)
    with pytest.raises(InputError, match=r"2 of 3 files are damaged: \S*b\.h5 is damaged.*; \S*b\.lmdb is damaged"):
        Verify(path=tmp_path).run()
    assert main(["verify", f"path={bank}"]) == 1
    assert "b.h5 is damaged" in capsys.readouterr().err


def test_a_run_with_its_model_and_checkpoints(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "model")
    write_checkpoint(tmp_path / "checkpoints" / "last.ckpt", {"global_step": 3})
    torch.save({"global_step": 2}, tmp_path / "checkpoints" / "old.ckpt")
    assert Verify(path=tmp_path).run() == {"intact": 2, "without_checksums": 1}
    damage(tmp_path / "model" / "model.safetensors", 0.9)
    damage(tmp_path / "checkpoints" / "last.ckpt", 0.5)
    with pytest.raises(InputError, match=r"2 of 3 .*last\.ckpt is damaged.*model\.safetensors is damaged"):
        Verify(path=tmp_path).run()
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is not valid JSON"):
        Verify(path=tmp_path / "model").run()


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt is no file that can be verified: feature bank"):
        Verify(path=tmp_path / "notes.txt").run()
    with pytest.raises(InputError, match="no file there can be verified"):
        Verify(path=tmp_path).run()
    with pytest.raises(InputError, match="none does not exist"):
        Verify(path=tmp_path / "none").run()


def test_the_folder_of_a_zero_shot_benchmark(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    assert Verify(path=tmp_path).run() == {"intact": 4, "without_checksums": 0}
    for name in ("clips.h5", "prompts.json", "features.h5"):
        damage(tmp_path / name, 0.5)
    with pytest.raises(InputError, match=r"3 of 4 files are damaged.*clips\.h5.*features\.h5.*prompts\.json"):
        Verify(path=tmp_path).run()


def test_regions_beside_their_bank(tmp_path: Path) -> None:
    write_regions(tmp_path, "train", 2, seed=0)
    assert Verify(path=tmp_path).run() == {"intact": 2, "without_checksums": 0}
    with h5py.File(tmp_path / "train.regions.h5", "r+") as file:
        file["action/id"][0] += 1
    with pytest.raises(InputError, match=r"1 of 2 files are damaged.*train\.regions\.h5"):
        Verify(path=tmp_path).run()


def test_narrations(tmp_path: Path) -> None:
    rows = [(1.0, "#C C cuts bread"), (2.0, "#C C eats")]
    table = narration_table(tmp_path / "in", {"a": passes(rows)}, [])
    table.write(tmp_path / "narrations.arrow")
    assert Verify(path=tmp_path).run() == {"intact": 1, "without_checksums": 0}
    whole = (tmp_path / "narrations.arrow").read_bytes()
    at = whole.index(np.asarray(table.second).tobytes())
    (tmp_path / "narrations.arrow").write_bytes(whole[:at] + b"\1" + whole[at + 1 :])
    with pytest.raises(InputError, match=r"narrations\.arrow is damaged: column 'second'"):
        Verify(path=tmp_path).run()
