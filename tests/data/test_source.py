from pathlib import Path

import numpy as np
import pytest

from clep.bank import BankWriter, Clock
from clep.data import Window
from clep.data.source import _drawn, share_text_keys
from clep.errors import InputError
from clep.text import Narrations
from tests.tiny_source import tiny_source, write_tiny_files


def test_held_out_videos_are_not_trained_on(tmp_path: Path) -> None:
    train, val = tiny_source(tmp_path, val_fraction=0.25).open(Window(sample="random"))
    assert val is not None
    assert not set(train.moments.video) & set(val.moments.video)
    assert val.window.sample == "uniform"


def test_a_split_that_ego4d_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vall"):
        tiny_source(tmp_path, exclude_splits=["vall"])


def test_moments_whose_video_is_missing_are_refused_or_counted(tmp_path: Path) -> None:
    write_tiny_files(tmp_path)
    with BankWriter(tmp_path / "bank.h5", 12, Clock(), "float32") as writer:
        for video in range(1, 12):
            writer.add(f"v{video:02d}", np.ones((111, 12), np.float32), duration_s=30.0 if video == 1 else 60.0)
    with pytest.raises(InputError, match=r"lacks the video of 20 of the .* on_missing=skip"):
        tiny_source(tmp_path).open(Window())
    source = tiny_source(tmp_path, on_missing="skip", duplicate_s=0.0)
    train, val = source.open(Window())
    seconds = Narrations.open(tmp_path / "narrations.arrow").second[20:40]
    late = int((seconds - 2 > 30.0 + 32 / 30).sum())
    assert late > 0
    assert source.report["dropped: video not in the bank"] == 20
    assert source.report["dropped: starts after the end of its video"] == late
    assert len(train) + len(val) == 220 - late


def test_text_bank_of_other_narrations_is_refused(tmp_path: Path) -> None:
    write_tiny_files(tmp_path)
    with BankWriter(tmp_path / "texts.h5", 8, None, "float32", source="of something else") as writer:
        writer.add("texts", np.ones((len(Narrations.open(tmp_path / "narrations.arrow").texts), 8), np.float32))
    with pytest.raises(InputError, match="was not made from the texts"):
        tiny_source(tmp_path).open(Window())


def test_no_matching_video_names_both_sides(tmp_path: Path) -> None:
    write_tiny_files(tmp_path)
    with BankWriter(tmp_path / "bank.h5", 12, Clock(), "float32") as writer:
        writer.add("other", np.ones((5, 12), np.float32))
    with pytest.raises(InputError, match="other"):
        tiny_source(tmp_path, on_missing="skip").open(Window())


def test_pass_order_is_the_tutorials(tmp_path: Path) -> None:
    train, _ = tiny_source(tmp_path, order="pass", val_fraction=0.0, duplicate_s=0.0).open(Window())
    narrations = Narrations.open(tmp_path / "narrations.arrow")
    starts = [
        s
        for v in range(12)
        for p in (1, 2)
        for s in sorted(narrations.second[(narrations.video == v) & (narrations.passes == p)])
    ]
    np.testing.assert_allclose(train.moments.start_s, np.maximum(np.array(starts) - 2, 0))


def test_egovlp_gaps_count_narrations_that_are_not_trained_on(tmp_path: Path) -> None:
    source = tiny_source(tmp_path, span="egovlp", val_fraction=0.0)
    train, _ = source.open(Window())
    source.min_words = 4
    fewer, _ = source.open(Window())
    narrations = Narrations.open(tmp_path / "narrations.arrow")
    one_pass = np.flatnonzero((narrations.video == 0) & (narrations.passes == 1))
    beta = np.diff(np.sort(narrations.second[one_pass])).mean()
    widths = {
        round(float(width), 6) for width in (train.moments.end_s - train.moments.start_s)[train.moments.video == 0]
    }
    betas = [
        np.diff(np.sort(narrations.second[(narrations.video == v) & (narrations.passes == p)])).mean()
        for v in range(12)
        for p in (1, 2)
    ]
    assert round(beta / np.mean(betas), 6) in widths
    assert 0 < len(fewer) < len(train)  # "opens the door" has three words, "opens the door again" four
    common = {(v, e) for v, e in zip(fewer.moments.video.tolist(), fewer.moments.end_s.tolist(), strict=True)}
    assert common <= {(v, e) for v, e in zip(train.moments.video.tolist(), train.moments.end_s.tolist(), strict=True)}


def test_sources_share_ids_of_equal_sentences(tmp_path: Path) -> None:
    write_tiny_files(tmp_path / "a", seed=1)
    write_tiny_files(tmp_path / "b", seed=2)
    sources = [tiny_source(tmp_path / name) for name in "ab"]
    parts = [source.open(Window())[0] for source in sources]
    share_text_keys(parts, sources)
    texts = [list(Narrations.open(tmp_path / name / "narrations.arrow").texts) for name in "ab"]
    for i, one in enumerate(texts[0]):
        for j, other in enumerate(texts[1]):
            assert (parts[0].text_key[i] == parts[1].text_key[j]) == (one == other)


@pytest.mark.parametrize(("weight", "drawn"), [(0.0, "0"), (1e9, "3,000,000,000")])
def test_weights_that_draw_no_row_or_too_many_are_refused(weight: float, drawn: str) -> None:
    with pytest.raises(InputError, match=rf"x\.arrow: the weights of its 3 training rows draw {drawn} moments .*scale"):
        _drawn(np.full(3, weight, np.float32), "x.arrow")
