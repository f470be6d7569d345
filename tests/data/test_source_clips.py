"""Narrations on a bank of clips: each has the rows of the clip of its span, and whole videos are held out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.data import LongTerm, NarrationSource, Window
from clep.datasets.clip_spans import SPAN_COLUMNS, find_clip_ids
from clep.datasets.epic_kitchens import read_epic_kitchens
from clep.datasets.user_table import read_user_table
from clep.errors import InputError
from clep.text import Narrations
from tests.evaluation.test_epic_mir import write_epic

COLUMNS = {"clip": "narration_id", "video": "video_id", "start": "start_timestamp", "end": "stop_timestamp"}


def source(folder: Path, drop: int = 0, **options: object) -> NarrationSource:
    """Thirty clips of three videos; the row of clip k is k, and of every third clip also 100 + k."""
    clips, _ = write_epic(folder)
    read_epic_kitchens(folder / "clips.csv").write(folder / "narrations.arrow")
    narrations = Narrations.open(folder / "narrations.arrow")
    with BankWriter(folder / "texts.h5", 2, None, "float32", source=narrations.digest) as writer:
        writer.add("texts", np.zeros((len(narrations.texts), 2), np.float32))
    with BankWriter(folder / "bank.h5", 1, Clock.irregular(0.0), "float32") as writer:
        for name, *_ in sorted(clips)[drop:]:
            number = int(name.split("_")[-1])
            rows = [[number], [100 + number]] if number % 3 == 0 else [[number]]
            writer.add(name, np.array(rows, np.float32), np.linspace(0, 0.5, len(rows)), duration_s=1.0)
    given = {"span": "given", "min_words": 1, "clips": folder / "clips.csv", "clip_columns": COLUMNS, **options}
    return NarrationSource(folder / "narrations.arrow", folder / "texts.h5", folder / "bank.h5", **given)


def test_a_narration_has_all_rows_of_the_clip_of_its_span(tmp_path: Path) -> None:
    one = source(tmp_path, val_fraction=0.4)
    train, held_out = one.open(Window())
    assert held_out is not None
    seen = []
    for part in (train, held_out):
        batch = part.gather(part.indices(torch.arange(len(part))))
        narrations = Narrations.open(tmp_path / "narrations.arrow")
        for row, moment in zip(batch["video"][:, 0].tolist(), range(len(part)), strict=True):
            number = round(row - 50 if row > 49 else row)  # the mean of k and 100 + k
            start_s, video = part.moments.start_s[moment], narrations.videos[part.moments.source_video[moment]]
            assert (start_s, video) == (number // 3, f"P01_{number % 3:02d}")
            seen.append(number)
    assert sorted(seen) == list(range(30))
    videos = [set(part.moments.source_video.tolist()) for part in (train, held_out)]
    assert not videos[0] & videos[1]
    assert one.report["held-out videos"] == len(videos[1])


def test_clips_that_the_bank_lacks_are_counted_or_refused(tmp_path: Path) -> None:
    one = source(tmp_path, drop=4, on_missing="skip", val_fraction=0.0)
    train, _ = one.open(Window())
    assert len(train) == 26
    assert one.report["dropped: video not in the bank"] == 4
    one.on_missing = "error"
    with pytest.raises(InputError, match="lacks 4 of the 30 clips of .*python -m clep.preprocess clips"):
        one.open(Window())


def test_a_bank_of_clips_needs_spans_and_gives_no_context(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds clips, which are found by their spans; use span=given"):
        source(tmp_path, span="fixed").open(Window())
    with pytest.raises(InputError, match="holds clips, so it has no long-term context"):
        source(tmp_path).open(Window(), context=LongTerm(4))
    with pytest.raises(InputError, match="lacks the column 'clip'|lacks the column 'video'"):
        source(tmp_path, clip_columns=None).open(Window())


def test_the_table_is_not_read_where_the_bank_has_the_videos(tmp_path: Path) -> None:
    one = source(tmp_path, clips=tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"absent\.csv"):
        one.open(Window())
    with BankWriter(tmp_path / "videos.h5", 1, Clock(1.0, 1.0), "float32") as writer:
        for video in range(3):
            writer.add(f"P01_{video:02d}", np.arange(12, dtype=np.float32)[:, None])
    one.bank_path = tmp_path / "videos.h5"
    train, _ = one.open(Window())
    assert train.moments.cut_from is None
    assert FeatureBank.open(one.bank_path).videos == ["P01_00", "P01_01", "P01_02"]


def test_spans_are_equal_to_the_millisecond_and_clips_without_ids_have_those_of_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("video,start,end\nv,00:00:01.5,2.25\nw,0,1\nv,1.5,2.25\n")
    table = read_user_table(tmp_path / "a.csv", SPAN_COLUMNS)
    videos = np.array(["v", "w", "v", "x"], dtype=object)
    found = find_clip_ids(table, videos, np.array([1.5000001, 0.1, 1.5, 0.0]), np.array([2.2499999, 1.0, 2.26, 1.0]))
    assert found == ["v_1500_2250", "", "", ""]
