"""The real `experiment=demo_video`, made small: films, their features, a model and its zero-shot figures."""

import logging
import sys
from pathlib import Path

import pytest

import clep
from clep.bank import FeatureBank
from clep.extraction import ledger_path, read_ledger
from clep.files import read_json
from clep.train import main

WORLD = (
    "++synthetic.dataset={_target_:clep.demo.SyntheticVideos,training_videos:7,other_videos:1,shortest_s:8,longest_s:9,"
    "kinetics_clips:1,kinetics_clip_s:1,width:96,height:64}"
)


@pytest.mark.slow  # test_train_ava and test_finetune_video go from films to figures in a few seconds
def test_from_films_to_zero_shot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        *("experiment=demo_video", WORLD, "hydra/job_logging=none", "hydra/hydra_logging=none"),
        *(
            "prepare.ego4d_videos.extraction.encoder.crop_px=64",
            "video_encoder=efficientnet-lite0-4x64",
            "trainer.max_epochs=2",
            "data.batch_size=16",
        ),
        *("data.sources.ego4d.val_fraction=0.3", "trainer.accelerator=cpu"),
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    main()
    (run,) = (tmp_path / "runs" / "demo_video").iterdir()
    metrics = read_json(run / "metrics.json")
    assert 0 <= metrics["zeroshot/kinetics/top1"] <= metrics["zeroshot/kinetics/top5"] <= 100
    assert "val/retrieval/t2v/r1" in metrics

    data = tmp_path / "data" / "demo_video"
    bank = FeatureBank.open(data / "clep" / "ego4d_features.h5")
    films = {path.stem for path in (data / "ego4d" / "videos").glob("*.mp4")}
    assert set(bank.videos) == films
    assert len(films) == 9
    assert {entry.status for entry in read_ledger(ledger_path(bank.path))} == {"done"}
    # Stereo is 192 pixels wide and one film is turned, but each lasts as ego4d.json says, whatever its frame rate.
    expected = {
        video["video_uid"]: video["duration_sec"] for video in read_json(data / "ego4d" / "ego4d.json")["videos"]
    }
    for video, seconds in zip(bank.videos, bank.duration_s.tolist(), strict=True):
        assert seconds == pytest.approx(expected[video], abs=0.06)

    model = clep.load(run, device="cpu")
    assert model.embed_video(bank, bank.videos[0], 1.0, 3.0).shape == (1, 512)
    hits = model.search(bank, "washes the cup", top=2, videos=bank.videos[:2])
    assert len(hits) == 2
    monkeypatch.setattr(sys, "argv", ["train.py", *words, "name=again", "trainer.max_epochs=1"])
    with caplog.at_level(logging.INFO, "clep.extraction"):
        main()
    assert "ego4d_features.h5 is up to date" in caplog.text
