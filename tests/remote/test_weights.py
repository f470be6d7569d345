"""Weights of encoders behind URLs give the rows and the names that the same local files give."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from clep import remote
from clep.bank import FeatureBank
from clep.errors import InputError
from clep.extraction import Extraction
from clep.models import TrainedEncoder, VideoClassifier
from clep.models.published import PublishedEncoder
from clep.preprocess.__main__ import main as preprocess
from clep.video import VideoEncoder
from clep.video.encoders import VJEPA2, ImageText, TimeSformer, VideoMAE, VideoMAEv2
from clep.weights import local_weights
from tests.hub_server import Hub
from tests.models.published import tiny_checkpoints
from tests.remote.stores import upload
from tests.video.encoders import tiny_models
from tests.video.encoders.divided_attention import random_weights
from tests.video.encoders.test_timesformer import checkpoint as timesformer_file
from tests.video.encoders.test_videomae_v2 import checkpoint as videomae_v2_weights
from tests.video.made_videos import regular, write_video

SMALL: dict[str, Any] = {"width": 24, "depth": 2, "heads": 3}


def timesformer(folder: Path) -> tuple[Path, Callable[[str], VideoEncoder]]:
    path = Path(timesformer_file(folder / "small_K400.pyth", random_weights()))
    return path, lambda weights: TimeSformer(weights, **SMALL)


def videomae(folder: Path) -> tuple[Path, Callable[[str], VideoEncoder]]:
    tiny_models.videomae(folder / "videomae", tuned=True)
    return folder / "videomae", VideoMAE


def videomae_v2(folder: Path) -> tuple[Path, Callable[[str], VideoEncoder]]:
    torch.save({"module": videomae_v2_weights()}, folder / "v2.pth")
    return folder / "v2.pth", lambda weights: VideoMAEv2(weights, frames=4, crop_px=16, heads=2)


def vjepa2(folder: Path) -> tuple[Path, Callable[[str], VideoEncoder]]:
    tiny_models.vjepa2(folder / "vjepa-2.1", tuned=False)  # a folder whose name has a dot
    return folder / "vjepa-2.1", VJEPA2


def image_text(folder: Path) -> tuple[Path, Callable[[str], VideoEncoder]]:
    tiny_models.clip(folder / "clip")
    return folder / "clip", lambda weights: ImageText(weights, frames=2)


def published(folder: Path) -> tuple[Path, Callable[[str], VideoEncoder]]:
    path = tiny_checkpoints.save(folder / "pe.pt", tiny_checkpoints.pe())
    return path, lambda weights: PublishedEncoder("pe", weights, sizes=tiny_checkpoints.SIZES)


def trained(folder: Path) -> tuple[Path, Callable[[str], VideoEncoder]]:
    tiny_models.timesformer(folder / "initial")
    encoder: dict[str, Any] = {"_target_": "clep.video.encoders.TimeSformer", "weights": str(folder / "initial")}
    encoder |= {"width": None, "depth": None, "heads": None}
    model = VideoClassifier.from_config({"encoder": encoder, "classes": ["cut", "wash"]})
    model.save_pretrained(folder / "run" / "model")
    return folder / "run", TrainedEncoder


@pytest.mark.parametrize("make", [timesformer, videomae, videomae_v2, vjepa2, image_text, published, trained])
def test_remote_weights_make_the_encoder_that_local_ones_make(
    tmp_path: Path,
    memory: fsspec.AbstractFileSystem,
    make: Callable[[Path], tuple[Path, Callable[[str], VideoEncoder]]],
) -> None:
    path, load = make(tmp_path)
    local, fetched = load(str(path)), load(upload(memory, path))
    assert fetched.name == local.name
    assert fetched.clip == local.clip
    assert fetched.state_dict().keys() == local.state_dict().keys()
    for name, weight in local.state_dict().items():
        assert torch.equal(fetched.state_dict()[name], weight), name


def test_a_file_of_a_repository_and_a_model_of_the_hub(tmp_path: Path, hub: Hub) -> None:
    path, load = timesformer(tmp_path)
    first = hub.commit("lab/models", {"k400.pyth": path.read_bytes()})
    url = "hf://lab/models/k400.pyth"
    rows = load(url)(clips := torch.randn(1, 3, 3, 12, 12))
    assert load(url).name == "k400-heads3"
    torch.save({"model_state": random_weights()}, path)
    hub.commit("lab/models", {"k400.pyth": path.read_bytes()})
    assert not torch.equal(load(url)(clips), rows)
    assert torch.equal(load(f"hf://lab/models@{first}/k400.pyth")(clips), rows)
    for same in ("hf://lab/models", "hf:/lab/models/", Path("hf://lab/models")):
        assert local_weights(same) == "lab/models"  # transformers looks it up
    with pytest.raises(InputError, match="hf://lab/models/none.pyth does not exist"):
        load("hf://lab/models/none.pyth")


def test_what_cannot_be_used_is_named(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    for weights in ("runs/x.pyth", "lab/model", "", "~/x"):
        assert local_weights(weights) == weights
    (tmp_path / "cut.pyth").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"cut\.pyth is corrupt"):
        TimeSformer(upload(memory, tmp_path / "cut.pyth"), **SMALL)
    with pytest.raises(remote.NotFoundError, match=r"memory://models/none\.pyth does not exist"):
        TimeSformer("memory://models/none.pyth", **SMALL)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.md").write_text("nothing")
    with pytest.raises(InputError, match=r"memory://models/empty holds no file that ends in \.json"):
        VideoMAE(upload(memory, tmp_path / "empty"))
    with pytest.raises(InputError, match="the protocol 's4' is unknown.*did you mean s3://models"):
        VideoMAE("s4://models/a")


def test_replaced_remote_weights_change_the_key(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    path, _ = timesformer(tmp_path)
    encoder = {"_target_": "clep.video.encoders.TimeSformer", "weights": upload(memory, path)}
    before = Extraction(encoder)
    key = before.key("float16")
    assert Extraction(encoder).key("float16") == key
    torch.save({"model_state": random_weights()}, path)
    upload(memory, path)
    assert Extraction(encoder).key("float16") != key
    assert pickle.loads(pickle.dumps(before)).key("float16") == key  # that of the workers of one run


def test_the_command_makes_a_bank_with_remote_weights(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> None:
    path, _ = timesformer(tmp_path)
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "a.mp4", regular(40, 30))
    banks: list[FeatureBank] = []
    for weights in (str(path), upload(memory, path)):
        output = tmp_path / f"{len(banks)}.h5"
        words = ["videos", f"videos={tmp_path / 'films'}", f"output={output}", "encoder=timesformer_k400"]
        words += [f"encoder.weights='{weights}'", "encoder.width=24", "encoder.depth=2", "encoder.heads=3"]
        words += ["encoder.frames=3", "encoder.crop_px=12", "device=cpu", "compute.processes=1"]
        assert preprocess(words) == 0
        banks.append(FeatureBank.open(output))
    local, fetched = banks
    assert fetched.encoder == local.encoder
    assert torch.equal(fetched.video_rows("a"), local.video_rows("a"))
