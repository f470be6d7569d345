"""The synthetic AVA: boxes are on people of their colour, and who watches depends on the video only."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from clep.datasets.ava import read_annotations, read_excluded
from clep.datasets.ava_proposals import read_proposals
from clep.demo import SyntheticAVA
from clep.demo.ava import COLOURS, POSES, TALKS, WATCHES
from clep.errors import InputError
from clep.video import KeyFrames, VideoReader

DATASET = SyntheticAVA(train_videos=4, val_videos=2, video_s=9, talk_s=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ava")
    DATASET.make(out, seed=3, progress=False)
    return out / "ava"


def test_boxes_show_the_colour_of_their_action(folder: Path) -> None:
    boxes = read_annotations(folder / "ava_train_v2.2.csv")
    colour_of = {POSES[colour]: COLOURS[colour] for colour in POSES} | {TALKS: COLOURS["yellow"]}
    right = []
    for number, video in enumerate(boxes.videos[:2]):
        own = (boxes.video == number) & (boxes.label != WATCHES)
        seconds = KeyFrames(tuple(float(second) - 900 for second in np.unique(boxes.second[own])), 0.0)
        for clip in VideoReader(folder / "videos" / f"{video}.mp4", 96).clips(seconds, 1):
            picture = clip.frames[0].numpy().astype(int)
            for row in np.flatnonzero(own & (boxes.second == clip.second + 900)):
                left, _, right_side, bottom = boxes.box[row]
                down, across = int((bottom - 0.1) * picture.shape[1]), int((left + right_side) / 2 * picture.shape[2])
                off = np.abs(picture[:, down, across] - colour_of[int(boxes.label[row])]).max()
                right.append(off < 40)
    assert len(right) > 20
    assert np.mean(right) > 0.75  # somebody may stand in front of another


def test_all_but_the_talker_watch_where_somebody_talks(folder: Path) -> None:
    boxes = read_annotations(folder / "ava_train_v2.2.csv")
    actions = defaultdict(set)
    for video, second, box, label in zip(boxes.video, boxes.second, boxes.box.tolist(), boxes.label, strict=True):
        actions[int(video), int(second), tuple(box)].add(int(label))
    talked = {video for (video, *_), shown in actions.items() if TALKS in shown}
    assert len(talked) == DATASET.train_videos // 2
    for (video, *_), shown in actions.items():
        assert (WATCHES in shown) == (video in talked and TALKS not in shown)


def test_detections_are_shifted_boxes_and_false_ones_with_low_scores(folder: Path) -> None:
    truth, found = read_annotations(folder / "ava_val_v2.2.csv"), read_proposals(folder / "ava_proposals_val.csv")
    distinct = len({(v, s, *b) for v, s, b in zip(truth.video, truth.second, truth.box.tolist(), strict=True)})
    assert int((found.score >= 0.9).sum()) == distinct
    assert int((found.score < 0.9).sum()) == len({*zip(truth.video.tolist(), truth.second.tolist(), strict=True)})
    assert {video for video, _ in read_excluded(folder / "ava_val_excluded_timestamps_v2.2.csv")} == {*truth.videos}


def test_a_complete_dataset_is_reused_and_another_seed_refused(folder: Path) -> None:
    before = (folder / "videos" / "train000.mp4").stat().st_mtime_ns
    DATASET.make(folder.parent, seed=3, progress=False)
    assert (folder / "videos" / "train000.mp4").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="seed|settings"):
        DATASET.make(folder.parent, seed=4, progress=False)
    with pytest.raises(InputError, match=r"talk_s=5 must be at most video_s - 4"):
        SyntheticAVA(video_s=6, talk_s=5)
