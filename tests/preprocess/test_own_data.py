"""One's own features and table: packed beside their folder, matched with the table, and trained on from one command."""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.data import NarrationSource, Window
from clep.errors import InputError
from clep.evaluate import evaluate
from clep.preprocess.own_data import Features, Table
from clep.text import Narrations
from clep.train import main
from tests.preprocess.conftest import FakeEncoder, encoder

__all__ = ["encoder"]
DIM = 8


def rows_of(video: int, rows: int = 20) -> np.ndarray:
    return np.random.default_rng(video).standard_normal((rows, DIM)).astype(np.float32)


def test_features_of_every_format_are_one_bank(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    (folder / "sub").mkdir(parents=True)
    np.save(folder / "a.npy", rows_of(0))
    np.save(folder / "sub" / "a.npy", rows_of(1)[None])
    np.savez(folder / "c.npz", features=rows_of(2), other=np.ones(3, np.float32))
    np.savez_compressed(folder / "d.npz", features=rows_of(3)[:, None])
    torch.save({"features": torch.from_numpy(rows_of(4)), "fps": 2.0}, folder / "e.pt")
    with h5py.File(folder / "f.h5", "w") as file:
        file["features"], file["fps"] = rows_of(5).astype(">f4"), 2.0
    done = Features(features=folder, rows_per_second=2, array="features").run()
    assert done["counts"]["videos_packed"] == 6
    reasons = done["lists"]["wrong_shape"]
    assert reasons == {}
    bank = FeatureBank.open(tmp_path / "features.bank.h5")
    assert bank.videos == ["a", "c", "d", "e", "f", "sub/a"]
    for name, video in (("a", 0), ("sub/a", 1), ("c", 2), ("d", 3), ("e", 4), ("f", 5)):
        np.testing.assert_allclose(bank.video_rows(name).numpy(), rows_of(video), rtol=1e-3, atol=1e-3)
    assert bank.clock == Clock(2.0, 0.5)
    assert Features(features=folder, rows_per_second=2, array="features").run()["up_to_date"]


def test_files_that_hold_several_arrays_need_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "a.npy", rows_of(0))
    np.savez(folder / "b.npz", x=rows_of(1), y=rows_of(1))
    torch.save([torch.from_numpy(rows_of(2)), torch.zeros(2)], folder / "c.pt")
    torch.save([torch.from_numpy(rows_of(3))], folder / "d.pt")
    wrong = Features(features=folder, rows_per_second=2).run()["lists"]["wrong_shape"]
    assert set(wrong) == {"b", "c"}
    assert "holds 2 arrays ('x', 'y'); choose one with array=NAME" in wrong["b"]
    with pytest.raises(InputError, match=r"features: how many rows per second .*features_per_second"):
        Features(features=folder).run()
    with pytest.raises(InputError, match=r"features=DIR or videos=DIR"):
        Features(features=None).run()


@pytest.mark.parametrize("name", ["bomb.npz", "bomb.h5"])
def test_a_compressed_file_that_unpacks_to_gigabytes_is_left_out(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "a.npy", rows_of(0))
    if name == "bomb.npz":
        np.savez_compressed(folder / name, np.zeros((1 << 20, DIM), np.float32))
    else:
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("x", data=np.zeros((1 << 20, DIM), np.float32), compression="gzip")
    done = Features(features=folder, rows_per_second=2).run()
    assert "unpacks to 33,554" in done["lists"]["unreadable"]["bomb"]


def test_a_bank_is_used_as_it_is(tmp_path: Path) -> None:
    with BankWriter(tmp_path / "mine.h5", DIM, Clock(), encoder="my-encoder") as writer:
        writer.add("a", rows_of(0))
    job = Features(features=tmp_path / "mine.h5")
    assert job.outputs() == [tmp_path / "mine.h5"]
    assert job.run()["counts"] == {"videos": 1, "rows": 20, "dim": DIM}


def write_own_data(folder: Path, videos: int = 6) -> None:
    (folder / "features").mkdir(parents=True)
    lines = ["video,start,end,caption,split"]
    for video in range(videos):
        np.save(folder / "features" / f"v{video}.npy", rows_of(video))
        lines += [
            f"v{video}.mp4,{second},{second + 1},action {video} {second},{'val' if video == 0 else 'train'}"
            for second in range(9)
        ]
    lines += ["v9,1,2,no features,train"]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")


def test_the_table_is_matched_with_the_bank(tmp_path: Path, encoder: FakeEncoder) -> None:
    write_own_data(tmp_path)
    Features(features=tmp_path / "features", rows_per_second=2).run()
    job = Table(
        table=tmp_path / "pairs.csv",
        columns={"text": "caption"},
        bank=tmp_path / "features.bank.h5",
        output_folder=tmp_path / "out",
        text_encoder="fake",
    )
    done = job.run()
    assert done["lists"]["videos_without_features"] == {"v9": "nearest: v5, v4, v3"}
    assert done["counts"]["kept"] == 54
    assert Narrations.open(tmp_path / "out" / "narrations.arrow").row_split.tolist() == [1] * 9 + [0] * 45
    assert job.run()["up_to_date"]
    assert job.command().startswith("python -m clep.preprocess table table=")
    source = NarrationSource(
        tmp_path / "out" / "narrations.arrow",
        tmp_path / "out" / "texts.fake.h5",
        tmp_path / "features.bank.h5",
        span="auto",
        min_words=1,
        duplicate_s=0.0,
    )
    train, held_out = source.open(Window())
    assert (len(train), len(held_out)) == (45, 9)
    assert set(train.moments.video.tolist()) == {1, 2, 3, 4, 5}
    np.testing.assert_array_equal(train.moments.start_s[:9], np.arange(9.0))


def test_weights_repeat_and_leave_out_rows(tmp_path: Path, encoder: FakeEncoder) -> None:
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "a.npy", rows_of(0))
    lines = [
        json.dumps({"video": "a", "time": t / 2, "text": f"t{t}", "weight": [0, 0.5, 2.5][t % 3]}) for t in range(18)
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    Features(features=tmp_path / "features", rows_per_second=2).run()
    Table(
        table=tmp_path / "x.jsonl", bank=tmp_path / "features.bank.h5", output_folder=tmp_path, text_encoder="fake"
    ).run()
    source = NarrationSource(
        tmp_path / "narrations.arrow",
        tmp_path / "texts.fake.h5",
        tmp_path / "features.bank.h5",
        span="auto",
        min_words=1,
        val_fraction=0.0,
    )
    train, held_out = source.open(Window())
    assert held_out is None
    texts = Narrations.open(tmp_path / "narrations.arrow").texts
    drawn = np.bincount(train.moments.text_id, minlength=18)
    weight = {0: 0, 1: 0.5, 2: 2.5}
    for kind in weight:
        counts = [drawn[i] for i in range(18) if int(texts[i][1:]) % 3 == kind]
        assert abs(sum(counts) - 6 * weight[kind]) <= 1
        assert max(counts) - min(counts) <= 1


def test_one_command_trains_on_a_table_and_a_folder(
    tmp_path: Path, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_own_data(tmp_path)
    spans = [f"v{video}.mp4,{second},{second + 2}" for video in range(4) for second in (1, 5)]
    labels = [f"{span},{('cut', 'wash')[i % 2]}" for i, span in enumerate(spans)]
    (tmp_path / "labels.csv").write_text("\n".join(["video,start,end,label", *labels]))
    queries = [f"{span}\tquery {i}" for i, span in enumerate(spans)]
    (tmp_path / "queries.tsv").write_text("\n".join(["video,start,end\tquery", *queries]).replace(",", "\t"))
    monkeypatch.setattr("clep.evaluation.clip_text.load_sentence_encoder", lambda name, device: encoder)
    monkeypatch.setenv("CLEP_RUN_ID", "one")
    words = [
        *("experiment=table", f"data.table={tmp_path / 'pairs.csv'}", f"data.features={tmp_path / 'features'}"),
        *("data.features_per_second=2", "data.columns.text=caption", "text_encoder=fake", "data.batch_size=16"),
        *(f"paths.out={tmp_path / 'out'}", f"paths.runs={tmp_path / 'runs'}", "trainer.max_epochs=1", "logger=none"),
        *("hydra/job_logging=none", "hydra/hydra_logging=none", "trainer.accelerator=cpu"),
        *("evaluator=[retrieval,table_classification]", "trainer.enable_model_summary=false"),
        *(f"evaluator.table_classification.table={tmp_path / 'labels.csv'}",),
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    main()
    run = tmp_path / "runs" / "table" / "one"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["val/retrieval/t2v/r10"] > 0
    assert json.loads((run / "prompts.json").read_text()) == {"table_classification": {"table": [["cut"], ["wash"]]}}
    table = [f"evaluator.table_retrieval.table={tmp_path / 'queries.tsv'}", "evaluator.table_retrieval.name=mine"]
    table.append(f"evaluator.table_classification.table={tmp_path / 'labels.csv'}")
    found = evaluate(run, ["evaluator=[table_classification,table_retrieval]", *table], device="cpu")
    classified = {name: value for name, value in metrics.items() if name.startswith("zeroshot/table/")}
    assert {name: found[name] for name in classified} == {n: pytest.approx(v) for n, v in classified.items()}
    assert set(classified) == {f"zeroshot/table/{name}" for name in ("top1", "top5", "mean_class_accuracy")}
    assert found["retrieval/mine/t2v/mAP"] > 0
    assert json.loads((run / "coverage.json").read_text())["data"]["table"]["training moments"] == 45
    assert (tmp_path / "features.bank.h5").exists()


def test_a_wrong_setting_of_the_data_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "experiment=table", "data.table=x.csv", "data.feature=y"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert "data.feature. Did you mean data.features=" in str(ended.value.code)
