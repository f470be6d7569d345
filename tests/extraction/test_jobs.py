"""The jobs that start from videos, on small films and with an encoder that costs nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clep.bank import FeatureBank
from clep.data import LabelledClips, MomentDataModule, NarrationSource
from clep.datasets.captions import read_captions
from clep.errors import InputError
from clep.extraction import text as text_rows
from clep.preprocess.conceptual_captions import ConceptualCaptions
from clep.preprocess.ego_charades import EgoCharades
from clep.preprocess.job import ensure
from clep.preprocess.kinetics import Kinetics
from clep.preprocess.videos import Ego4DVideos
from clep.text import Narrations
from tests.extraction.conftest import FAKE
from tests.preprocess.conftest import FakeEncoder
from tests.video.made_videos import regular, write_video

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "kinetics400"


@pytest.fixture
def sentences(monkeypatch) -> FakeEncoder:
    fake = FakeEncoder()
    monkeypatch.setattr(text_rows, "load_encoder", lambda name, device, batch_size: fake)
    return fake


def metadata(folder: Path, **videos: dict) -> Path:
    path = folder / "ego4d.json"
    path.write_text(json.dumps({"videos": [{"video_uid": uid, **values} for uid, values in videos.items()]}))
    return path


def test_ego4d_takes_the_left_eye_and_lists_what_is_missing(tmp_path, encoder):
    (tmp_path / "videos").mkdir()
    eyes = np.zeros((48, 128, 3), np.uint8)
    eyes[:, :64, 0], eyes[:, 64:, 1] = 255, 255  # left red, right green
    write_video(tmp_path / "videos" / "stereo.mp4", regular(40, 30), pictures=[eyes] * 40)
    shutil.copy(tmp_path / "videos" / "stereo.mp4", tmp_path / "videos" / "mono.mp4")
    described = metadata(
        tmp_path,
        stereo={"duration_sec": 1.33, "is_stereo": True},
        mono={"duration_sec": None, "is_stereo": False},
        gone={"duration_sec": 5.0},
    )
    coverage = Ego4DVideos(
        videos=tmp_path / "videos", ego4d_json=described, output=tmp_path / "bank.h5", extraction={"encoder": FAKE}
    ).run()
    bank = FeatureBank.open(tmp_path / "bank.h5")
    assert bank.videos == ["mono", "stereo"]
    np.testing.assert_allclose(bank.video_rows("stereo")[0, :3], [1, 0, 0], atol=0.02)
    np.testing.assert_allclose(bank.video_rows("mono")[0, :3], [0.5, 0.5, 0], atol=0.04)
    assert list(coverage["lists"]["skipped"]) == ["gone"]


def test_kinetics_from_videos_sorted_by_class(films, tmp_path, encoder, sentences):
    (tmp_path / "k" / "waving").mkdir(parents=True)
    shutil.copy(films / "a.mp4", tmp_path / "k" / "waving" / "aaaaaaaaaaa_000001_000003.mp4")
    shutil.copy(films / "b.mp4", tmp_path / "k" / "bbbbbbbbbbb_000002_000012.mp4")
    rows = ["label,youtube_id,time_start,time_end,split"]
    rows += ["waving,aaaaaaaaaaa,1,3,val", "running,bbbbbbbbbbb,2,12,val", "running,ccccccccccc,0,10,val"]
    (tmp_path / "val.csv").write_text("\n".join(rows) + "\n")
    options = {
        "csv": tmp_path / "val.csv", "videos": tmp_path / "k", "output_folder": tmp_path / "out",
        "extraction": {"encoder": FAKE}, "text_encoder": "fake",
    }  # fmt: skip
    coverage = Kinetics(**options).run()
    clips, bank = LabelledClips.open(tmp_path / "out" / "clips.h5"), FeatureBank.open(tmp_path / "out" / "features.h5")
    assert [clips.classes[label] for label in clips.label] == ["waving", "running", "running"]
    assert set(bank.videos) == set(clips.ids[:2])
    assert coverage["settings"]["encoder"] == "brightness"
    assert coverage["lists"]["clips_without_features"] == ["ccccccccccc_000000_000010"]
    encoder.clips = 0
    again = ensure([{"_target_": "clep.preprocess.kinetics.Kinetics", **options}])
    assert again[0]["up_to_date"]
    assert encoder.clips == 0


def test_ego_charades_from_videos(films, tmp_path, encoder, sentences):
    (tmp_path / "v").mkdir()
    shutil.copy(films / "a.mp4", tmp_path / "v" / "AAAAA.mp4")
    shutil.copy(films / "b.mp4", tmp_path / "v" / "AAAAAEGO.mp4")
    (tmp_path / "classes.txt").write_text("c000 Opening a door\nc001 Closing a door\n")
    (tmp_path / "test.csv").write_text(
        "id,actions,length,egocentric\nAAAAA,c000 0.0 1.0,2.0,No\nAAAAAEGO,c001 0.0 1.0,1.0,Yes\n"
    )
    EgoCharades(
        csv=tmp_path / "test.csv", classes=tmp_path / "classes.txt", videos=tmp_path / "v",
        output_folder=tmp_path / "out", extraction={"encoder": FAKE}, text_encoder="fake",
    ).run()  # fmt: skip
    assert FeatureBank.open(tmp_path / "out" / "features.h5").videos == ["AAAAA", "AAAAAEGO"]
    assert LabelledClips.open(tmp_path / "out" / "clips.h5").labels.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("job", [Kinetics, EgoCharades])
def test_neither_videos_nor_features_is_an_error(job, tmp_path, encoder):
    (tmp_path / "val.csv").write_text(
        "label,youtube_id,time_start,time_end,id,actions,egocentric\nx,abc,0,1,abc,,Yes\n"
    )
    (tmp_path / "classes.txt").write_text("c000 Opening a door\n")
    options = {"classes": tmp_path / "classes.txt"} if job is EgoCharades else {}
    with pytest.raises(InputError, match="videos=DIR"):
        job(csv=tmp_path / "val.csv", features=None, output_folder=tmp_path / "out", **options).run()
    with pytest.raises(InputError, match="for none of the 1 clips"):
        job(csv=tmp_path / "val.csv", output_folder=tmp_path / "out", videos=tmp_path, **options).run()


def test_captions_become_a_source_that_can_be_mixed(films, tmp_path, encoder, sentences):
    (tmp_path / "im" / "0").mkdir(parents=True)
    for name, colour in (("0/red.jpg", (255, 0, 0)), ("0/blue.png", (0, 0, 255)), ("green.jpg", (0, 255, 0))):
        Image.new("RGB", (80, 60), colour).save(tmp_path / "im" / name)
    (tmp_path / "im" / "bad.jpg").write_bytes(b"\xff\xd8 no image")
    lines = ["filepath\ttitle", '0/red.jpg\ta "red"  wall', "0/blue.png\tthe blue sea", "green.jpg\tgreen grass here"]
    lines += ["green.jpg\tmore green grass", "gone.jpg\tnot on this disk", "bad.jpg\ta broken file", "0/red.jpg\t  "]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    options = {
        "tsv": tmp_path / "train.tsv", "images": tmp_path / "im", "output_folder": out,
        "extraction": {"encoder": FAKE, "clip_batch": 2}, "text_encoder": "fake",
    }  # fmt: skip
    coverage = ConceptualCaptions(**options).run()
    assert coverage["lists"]["skipped"] == {"gone.jpg": "no such file"}
    assert list(coverage["lists"]["failed"]) == ["bad.jpg"]
    bank, narrations = FeatureBank.open(out / "features.h5"), Narrations.open(out / "narrations.arrow")
    assert bank.videos == ["0/blue.png", "0/red.jpg", "green.jpg"]
    np.testing.assert_allclose(bank.video_rows("green.jpg")[0], [0, 1, 0, 1 / 3], atol=0.02)
    assert 'a "red" wall' in narrations.texts
    assert narrations.report["empty"] == 1

    source = NarrationSource(
        narrations=str(out / "narrations.arrow"), texts=str(out / "texts.fake.h5"), bank=str(out / "features.h5"),
        offset_s=1.0, val_fraction=0.0, on_missing="skip",
    )  # fmt: skip
    data = MomentDataModule({"captions": source}, batch_size=4, shuffle=False)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["video"].shape == (4, 4)
    assert ConceptualCaptions(**options).run()["up_to_date"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filepath\tcaption\na\tb\n", r"'title'.*filepath, caption"),
        ("filepath\ttitle\n", "no rows"),
        ("filepath\ttitle\n\tx\n", "line 2"),
        ("", "not a readable"),
    ],
)
def test_a_table_of_captions_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_captions(tmp_path / "t.tsv")


def test_the_real_kinetics_clips_come_out_labelled(tmp_path, encoder, sentences):
    if not SAMPLES.exists():
        pytest.skip("the sample clips are not here")
    Kinetics(
        csv=SAMPLES / "val.csv", videos=SAMPLES / "videos", output_folder=tmp_path,
        extraction={"encoder": FAKE, "sampling": "segments"}, text_encoder="fake",
    ).run()  # fmt: skip
    clips, bank = LabelledClips.open(tmp_path / "clips.h5"), FeatureBank.open(tmp_path / "features.h5")
    assert len(bank) == 2
    assert {clips.classes[clips.label[clips.ids.index(video)]] for video in bank.videos} == {"using segway"}
