import csv
import os
from pathlib import Path

import numpy as np
import pytest

from clep.bank import BankWriter, Clock, FeatureBank
from clep.data import NarrationSource, Window
from clep.datasets.epic_kitchens import read_epic_kitchens
from clep.errors import InputError
from clep.preprocess.narrations import EpicKitchens
from clep.text import Narrations

HEADER = "narration_id,video_id,start_timestamp,stop_timestamp,narration,verb_class,noun_class,all_noun_classes\n"
ROWS = (
    'n0,P01_02,00:00:10.00,00:00:12.50,take plate,0,2,"[2, 9]"\n'
    "n1,P01_02,00:01:00.00,00:01:02.00,put down plate,1,2,[2]\n"
    "n2,P01_01,00:00:01.00,00:00:03.00,take plate,0,2,[2]\n"
)
INFO = "video_id,duration,fps,resolution\nP01_01,20.5,60,1920x1080\n"


def run(folder, rows=ROWS, header=HEADER, **options):
    (folder / "epic.csv").write_text(header + rows)
    (folder / "info.csv").write_text(INFO)
    options = {"csv": folder / "epic.csv", "video_info": folder / "info.csv", "text_encoder": "fake", **options}
    return EpicKitchens(output_folder=folder / "out", **options).run()


def test_spans_and_classes_are_read(tmp_path, encoder):
    coverage = run(tmp_path)
    read = Narrations.open(tmp_path / "out" / "narrations.arrow")
    assert [read.videos[v] for v in read.video] == ["P01_01", "P01_02", "P01_02"]
    assert (read.start_s.tolist(), read.end_s.tolist()) == ([1.0, 10.0, 60.0], [3.0, 12.5, 62.0])
    assert read.second.tolist() == [2.0, 11.25, 61.0]
    assert [read.texts[i] for i in read.text_id] == ["take plate", "take plate", "put down plate"]
    assert [read.verbs[i] for i in range(2)] == [[0], [1]]
    assert [read.nouns[i] for i in range(2)] == [[2, 9], [2]]
    assert read.duration_s[0] == 20.5
    assert np.isnan(read.duration_s[1])
    assert coverage["lists"]["videos_without_duration"] == ["P01_02"]
    assert run(tmp_path)["up_to_date"]


def test_a_source_uses_the_given_spans(tmp_path, encoder):
    run(tmp_path)
    out = tmp_path / "out"
    with BankWriter(out / "features.h5", 3, Clock(), "float32", encoder="tiny") as writer:
        for video in ("P01_01", "P01_02"):
            writer.add(video, np.arange(360, dtype=np.float32).reshape(120, 3))
    files = {"narrations": out / "narrations.arrow", "texts": out / "texts.fake.h5", "bank": out / "features.h5"}
    train, _ = NarrationSource(**files, span="given", min_words=1, val_fraction=0.0).open(Window())
    bank = FeatureBank.open(out / "features.h5")
    first, last = bank.window(np.array([0, 1, 1]), np.array([1.0, 10.0, 60.0]), np.array([3.0, 12.5, 62.0]))
    np.testing.assert_array_equal(train.__getitems__([0, 1, 2])["video"], bank.mean(first, last))
    assert len(NarrationSource(**files, min_words=1, val_fraction=0.0).open(Window())[0]) == 3


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (HEADER.replace("verb_class", "verb"), ROWS, r"epic\.csv lacks the column 'verb_class'.*verbs_nouns=false"),
        (HEADER.replace("stop_timestamp", "stop"), ROWS, r"epic\.csv lacks the column 'stop_timestamp'"),
        (HEADER, ROWS.replace("00:01:02.00", "62"), r"epic\.csv, line 3: stop_timestamp is '62', not a time"),
        (
            HEADER,
            ROWS.replace(",1,2,[2]", ",one,2,[2]"),
            r"epic\.csv, line 3: verb_class is 'one', not a list of ids",
        ),
        (HEADER, ROWS.replace("n1,P01_02", "n1,"), r"epic\.csv, line 3: video_id is empty"),
    ],
)
def test_bad_input(tmp_path, encoder, header, rows, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, rows, header)


def test_classes_can_be_left_out(tmp_path, encoder):
    run(tmp_path, header=HEADER.replace("verb_class", "verb"), verbs_nouns=False)
    assert Narrations.open(tmp_path / "out" / "narrations.arrow").verbs is None


@pytest.mark.skipif("CLEP_SAMPLE_DATA" not in os.environ, reason="CLEP_SAMPLE_DATA names no folder of sample inputs")
@pytest.mark.parametrize("name", ["EPIC_100_validation.csv", "EPIC_55_train_action_labels.csv"])
def test_real_files(name: str) -> None:
    folder = Path(os.environ["CLEP_SAMPLE_DATA"]) / "epic_kitchens"
    read = read_epic_kitchens(folder / name, folder / "EPIC_100_video_info.csv")
    with (folder / name).open() as file:
        rows = list(csv.DictReader(file))

    def seconds(time: str) -> float:
        hours, minutes, rest = time.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    expected = sorted(
        (
            row["video_id"],
            round(seconds(row["start_timestamp"]), 6),
            " ".join(row["narration"].split()),
            row["verb_class"],
        )
        for row in rows
    )
    found = sorted(
        (read.videos[v], round(s, 6), read.texts[t], ",".join(map(str, read.verbs[t])))
        for v, s, t in zip(read.video, read.start_s.tolist(), read.text_id, strict=True)
    )
    assert found == expected
