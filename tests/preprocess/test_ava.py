"""The job `ava`: a bank with one row per box, the file that describes the rows, and runs after inputs changed."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clep.bank import FeatureBank
from clep.data import Regions
from clep.datasets.lfb_files import load_lfb
from clep.errors import InputError
from clep.extraction import ledger_path, read_ledger, shard
from clep.extraction import videos as video_rows
from clep.preprocess.__main__ import main
from clep.preprocess.ava import Ava
from clep.preprocess.lfb import LfbExport
from clep.video import ClipSpec, VideoEncoder
from tests.video.made_videos import regular, write_video

FAKE = {"_target_": "clep.video.encoders.EfficientNetLite0"}  # replaced below, so that nothing is loaded


class Colours(VideoEncoder):
    name, dim = "colours", 3

    def __init__(self) -> None:
        super().__init__()
        self.clip = ClipSpec(1, 32, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.clips = 0

    def spatial(self, pixels: Tensor) -> Tensor:
        self.clips += len(pixels)
        return torch.nn.functional.avg_pool2d(pixels.flatten(0, 1), 8).unflatten(0, pixels.shape[:2]).transpose(1, 2)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Colours:
    made = Colours()
    shard.unload_encoder()
    monkeypatch.setattr(video_rows, "load_video_encoder", lambda config, device: made)
    return made


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for name, seconds in (("red", 4), ("blue", 3)):
        frame = np.zeros((64, 96, 3), np.uint8)
        frame[:, :48, 0 if name == "red" else 2] = 240
        write_video(
            tmp_path / "videos" / f"{name}.mp4", regular(5 * seconds, 5), rate=5, pictures=[frame] * 5 * seconds
        )
    lines = [
        "red,0902,0,0,0.5,1,12,0",
        "red,0902,0,0,0.5,1,80,0",
        "red,0901,0.5,0,1,1,11,1",
        "blue,0901,0,0,0.5,1,14,0",
    ]
    lines += ["blue,0904,0,0,1,1,14,0", "gone,0901,0,0,1,1,14,0"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "p.csv").write_text("red,902,0,0,0.5,1,0.95\nblue,901,0,0,0.5,1,0.99\nblue,901,0,0,1,1,0.2\n")
    return tmp_path


def run(folder: Path, **options: Any) -> dict[str, Any]:
    named = {"videos": folder / "videos", "annotations": folder / "a.csv", "output": folder / "train.h5"}
    named |= {"proposals": None, "excluded": None}
    extraction = {"encoder": FAKE, "clip_s": 0.5, "device": "cpu", **options.pop("extraction", {})}
    return Ava(**(named | options), extraction=extraction).run()


def test_rows_and_their_descriptions(encoder: Colours, inputs: Path) -> None:
    result = run(inputs)
    bank, regions = FeatureBank.open(inputs / "train.h5"), Regions.open(inputs / "train.regions.h5")
    assert bank.videos == ["blue", "red"]
    assert regions.videos == ("blue", "red")
    assert bank.video_seconds("red").tolist() == [901.0, 902.0]
    assert regions.second.tolist() == [901.0, 901.0, 902.0]
    assert regions.video.tolist() == [0, 1, 1]
    bounds = regions.first_action.tolist()
    actions = [regions.action[start:end].tolist() for start, end in pairwise(bounds)]
    assert actions == [[14], [11], [12, 80]]
    rows = bank.take([0, 1, 2])
    assert rows[0].argmax() == 2
    assert rows[1].max() < 0.5 < rows[2].max()  # the black half
    assert rows[2].argmax() == 0
    regions.check_bank(bank, "regions")
    entries = {entry.id: entry for entry in read_ledger(ledger_path(inputs / "train.h5"))}
    assert entries["blue"].reason == "1 boxes of 1 seconds have no frame, first at second 904"
    assert (entries["gone"].status, entries["gone"].reason) == ("skipped", "no gone.mp4 in videos")
    assert result["regions"]["annotated"] == 3
    target = regions.targets(np.arange(3), [12, 14, 80])
    assert target.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_detected_boxes_and_mmaction2_s_format(encoder: Colours, inputs: Path) -> None:
    run(inputs, boxes="detected", proposals=inputs / "p.csv", annotations=None)
    regions = Regions.open(inputs / "train.regions.h5")
    assert regions.annotated.tolist() == [False, False]
    np.testing.assert_allclose(regions.score, [0.99, 0.95])
    LfbExport(bank=inputs / "train.h5", output=inputs / "lfb.pkl").run()
    lfb = load_lfb(inputs / "lfb.pkl")
    assert {
        video: {second: tuple(rows.shape) for second, rows in seconds.items()} for video, seconds in lfb.items()
    } == {
        "blue": {901: (1, 3)},
        "red": {902: (1, 3)},
    }


def test_only_what_changed_is_encoded_again(encoder: Colours, inputs: Path) -> None:
    run(inputs)
    encoder.clips = 0
    assert run(inputs)["up_to_date"]
    text = (inputs / "a.csv").read_text()
    (inputs / "a.csv").write_text(text.replace(",80,0", ",79,0"))  # another action of the same box
    run(inputs)
    assert encoder.clips == 0
    assert 79 in Regions.open(inputs / "train.regions.h5").action
    (inputs / "a.csv").write_text(text.replace("red,0901,0.5", "red,0901,0.4"))
    run(inputs)
    assert encoder.clips == 8  # one batch, filled up, with the two key frames of one video
    np.testing.assert_allclose(Regions.open(inputs / "train.regions.h5").box[1], [0.4, 0, 1, 1])


def test_a_video_without_boxes_any_more_keeps_its_rows_and_descriptions(encoder: Colours, inputs: Path) -> None:
    run(inputs)
    before = Regions.open(inputs / "train.regions.h5")
    text = (inputs / "a.csv").read_text()
    (inputs / "a.csv").write_text("\n".join(line for line in text.splitlines() if "blue" not in line) + "\n")
    run(inputs)
    after = Regions.open(inputs / "train.regions.h5")
    assert after.videos == before.videos
    np.testing.assert_array_equal(after.box, before.box)
    (inputs / "train.regions.h5").unlink()
    with pytest.raises(InputError, match=r"rows of video 'blue' for other boxes.*overwrite=true"):
        run(inputs)
    run(inputs, overwrite=True)
    assert Regions.open(inputs / "train.regions.h5").videos == ("red",)


def test_shards_and_cost(encoder: Colours, inputs: Path) -> None:
    assert run(inputs, extraction={"shard": "0/2"})["waiting_for"] == 1
    assert not (inputs / "train.regions.h5").exists()
    run(inputs, extraction={"shard": "1/2"})
    assert len(Regions.open(inputs / "train.regions.h5")) == 3
    job = Ava(
        videos=inputs / "videos", annotations=inputs / "a.csv", proposals=inputs / "p.csv", excluded=None,
        output=inputs / "x.h5", extraction={"encoder": FAKE},
    )  # fmt: skip
    assert job.cost_warning(0, 0) is None
    assert job.inputs() == [inputs / "videos", inputs / "a.csv"]
    assert job.outputs() == [inputs / "x.h5", inputs / "x.regions.h5"]


def test_bad_inputs(encoder: Colours, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"has neither a video nor a folder of key frames for any of the 3 videos"):
        (inputs / "other").mkdir()
        run(inputs, videos=inputs / "other")
    with pytest.raises(InputError, match=r"video 'gone': no gone\.mp4 in videos \(on_error=skip"):
        run(inputs, on_error="stop")
    with pytest.raises(InputError, match="roi_size=0"):
        run(inputs, extraction={"roi_size": 0})
    with pytest.raises(InputError, match=r"extraction\.window: RegionExtraction has|window"):
        run(inputs, extraction={"windows": 3})
    arguments = [f"paths.data={inputs}", f"videos={inputs}/videos", "encoder=efficientnet_lite0", "excluded=null"]
    assert main(["ava", *arguments, f"annotations={inputs}/none.csv"]) == 1
    assert "none.csv does not exist" in capsys.readouterr().err
    assert main(["ava", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "roi_size" in shown
    assert "at which the video files start" in " ".join(shown.split())
