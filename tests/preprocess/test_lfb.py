import pickle
from pathlib import Path

import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.datasets.lfb_files import load_lfb
from clep.errors import InputError
from clep.preprocess.__main__ import main
from clep.preprocess.lfb import LfbExport, LfbImport
from tests.datasets.test_lfb_files import content, same

from .conftest import DIM, RunsCode


def test_there_and_back(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "lfb_train.pkl")
    words = [f"lfb={tmp_path}/lfb_train.pkl", f"output={tmp_path}/lfb.h5", "encoder=slowonly"]
    assert main(["lfb_import", *words]) == 0
    bank = FeatureBank.open(tmp_path / "lfb.h5")
    assert (bank.videos, bank.dim, bank.encoder, bank.clock) == (["a", "b"], DIM, "slowonly", Clock.irregular(1.0))
    assert bank.dtype == torch.float16
    seconds = bank.video_seconds("b")
    assert seconds is not None
    assert seconds.tolist() == [902, 903, 903, 903, 903, 910, 910]
    assert main(["lfb_export", f"bank={tmp_path}/lfb.h5", f"output={tmp_path}/back.pkl"]) == 0
    assert same(dict(sorted(content().items())), torch.load(tmp_path / "back.pkl", weights_only=True))
    assert main(["lfb_export", f"bank={tmp_path}/lfb.h5", f"output={tmp_path}/back.pkl"]) == 1


def test_a_window_holds_what_the_published_loop_takes(tmp_path: Path) -> None:
    """The seconds `[t - 30, t + 30)` of mmaction2, its random choice left aside; empty slots masked."""
    torch.save(content(), tmp_path / "lfb_train.pkl")
    LfbImport(lfb=tmp_path / "lfb_train.pkl", output=tmp_path / "lfb.h5").run()
    bank = FeatureBank.open(tmp_path / "lfb.h5")
    for t in (873, 880, 932, 933, 940, 941):
        rows, mask = bank.long_term(bank.index(["b"]), [t], 60, 5)
        slow, real = torch.zeros(60, 5, DIM), torch.zeros(60, 5, dtype=torch.bool)
        for slot, second in enumerate(range(t - 30, t + 30)):
            found = content()["b"].get(second, torch.zeros(0, DIM))[:5]
            slow[slot, : len(found)], real[slot, : len(found)] = found.float(), True
        assert rows[0].equal(slow.view(300, DIM))
        assert mask[0].equal(real.view(-1))
    assert not mask.any()  # the last region of the video is of second 910


def test_several_files_make_one_bank(tmp_path: Path) -> None:
    train, val = content(), {"c": {5: torch.ones(1, DIM)}, "empty": {7: torch.zeros(0, DIM)}}
    torch.save(train, tmp_path / "lfb_train.pkl")
    (tmp_path / "lfb_val.pkl").write_bytes(pickle.dumps(val))
    lfb = [str(tmp_path / "lfb_train.pkl"), str(tmp_path / "lfb_val.pkl")]
    coverage = LfbImport(lfb=lfb, output=tmp_path / "lfb.h5", dtype="float32").run()
    assert coverage["counts"] == {"files": 2, "videos": 3, "seconds": 5, "rows": 11, "dim": DIM}
    assert coverage["lists"] == {"without_a_region": ["empty"]}
    assert FeatureBank.open(tmp_path / "lfb.h5").videos == ["a", "b", "c"]
    assert LfbImport(lfb=lfb, output=tmp_path / "lfb.h5", dtype="float32").run()["up_to_date"]
    assert not LfbImport(lfb=lfb, output=tmp_path / "lfb.h5", dtype="float16").run()["up_to_date"]


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "one.pkl")
    torch.save({"c": {1: torch.ones(1, DIM + 1)}}, tmp_path / "wide.pkl")
    torch.save({"c": {}}, tmp_path / "none.pkl")
    for names, words in (
        (["one", "one"], "video 'b' is in both"),
        (["one", "wide"], f"disagree in dim: .*one.pkl has {DIM}, .*wide.pkl has {DIM + 1}"),
        (["none"], "none.pkl holds no region"),
    ):
        with pytest.raises(InputError, match=words):
            LfbImport(lfb=[str(tmp_path / f"{name}.pkl") for name in names], output=tmp_path / "lfb.h5").run()
    assert not (tmp_path / "lfb.h5").exists()


def test_a_file_that_pickles_code_ends_the_job_with_one_sentence(
    tmp_path: Path, canary: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"v": {1: RunsCode()}}))
    assert main(["lfb_import", f"lfb={tmp_path}/evil.pkl", f"output={tmp_path}/lfb.h5"]) == 1
    printed = capsys.readouterr().err
    assert "evil.pkl is an unsafe pickle: loading it would run" in printed
    assert "system; save tensors" in printed
    assert not canary.exists()
    assert not (tmp_path / "lfb.h5").exists()


def test_a_bank_on_a_grid_is_exported_by_the_second_that_rows_start_in(tmp_path: Path) -> None:
    rows = torch.arange(8.0)[:, None].expand(8, DIM)
    with BankWriter(tmp_path / "b.h5", DIM, Clock(30 / 16, 32 / 30), "float32") as writer:
        writer.add("v", rows)
    LfbExport(bank=tmp_path / "b.h5", output=tmp_path / "out.pkl").run()
    found = load_lfb(tmp_path / "out.pkl")["v"]
    starts = [i * 16 / 30 for i in range(8)]
    assert {at: x[:, 0].tolist() for at, x in found.items()} == {
        at: [i for i, start in enumerate(starts) if int(start) == at] for at in range(4)
    }
    with BankWriter(tmp_path / "texts.h5", DIM, None) as writer:
        writer.add("texts", rows)
    with pytest.raises(InputError, match="bank of texts"):
        LfbExport(bank=tmp_path / "texts.h5", output=tmp_path / "texts.pkl").run()
