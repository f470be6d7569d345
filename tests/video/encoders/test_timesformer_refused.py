"""Checkpoints that are damaged, run code, or are of another architecture."""

import json
from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.video.encoders import TimeSformer
from tests.video.encoders import tiny_models
from tests.video.encoders.divided_attention import random_weights

SMALL = {"width": 24, "depth": 2, "heads": 3}


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("__import__('pathlib').Path('ran').touch()",)


def file(folder: Path, content: object) -> str:
    torch.save(content, folder / "model.pyth")
    return str(folder / "model.pyth")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"width": 32}, r"model\.pyth has width 24, not 32"),
        ({"depth": 12}, r"model\.pyth has depth 2, not 12.*depth=2"),
        ({"heads": 5}, "width 24, not a multiple of heads=5"),
        ({"heads": -3}, "width 24, not a multiple of heads=-3"),
        ({"frames": 0}, "frames and crop_px of at least 1, not 0"),
        ({"crop_px": 0}, "frames and crop_px of at least 1"),
        ({"crop_px": 14}, "crop_px=14 is not a multiple of 4"),
    ],
)
def test_another_architecture_than_asked(tmp_path: Path, asked: dict[str, int], message: str) -> None:
    path = file(tmp_path, {"model_state": random_weights()})
    with pytest.raises(InputError, match=message):
        TimeSformer(path, **(SMALL | asked))


def test_another_architecture_than_the_usual_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has width 24, not 768"):
        TimeSformer(file(tmp_path, random_weights()), heads=None)
    tiny_models.timesformer(tmp_path / "folder")
    with pytest.raises(InputError, match="has width 16, not 768"):
        TimeSformer(str(tmp_path / "folder"))


def test_weights_of_two_architectures_in_one_file(tmp_path: Path) -> None:
    weights = random_weights()
    weights["blocks.1.attn.qkv.weight"] = torch.zeros(96, 32)
    with pytest.raises(InputError, match=r"1 of another shape \(encoder\.layer\.1\.attention\.attention\.qkv\.weight"):
        TimeSformer(file(tmp_path, weights), **SMALL)


def test_missing_and_unexpected_weights(tmp_path: Path) -> None:
    weights = random_weights()
    del weights["blocks.1.temporal_fc.bias"]
    with pytest.raises(InputError, match=r"1 missing \(encoder\.layer\.1\.temporal_dense\.bias\)"):
        TimeSformer(file(tmp_path, weights), **SMALL)
    weights = random_weights() | {"blocks.0.adapter.weight": torch.zeros(3)}
    with pytest.raises(InputError, match=r"1 unexpected \(blocks\.0\.adapter\.weight\)"):
        TimeSformer(file(tmp_path, weights), **SMALL)
    weights = random_weights()
    del weights["time_embed"]
    with pytest.raises(InputError, match="time_embeddings is missing"):
        TimeSformer(file(tmp_path, weights), **SMALL)
    weights = {key: value for key, value in random_weights().items() if "temporal" not in key}
    with pytest.raises(InputError, match="no temporal attention.*divST"):
        TimeSformer(file(tmp_path, weights), **SMALL)


@pytest.mark.parametrize("content", [{"weight": torch.zeros(3)}, [torch.zeros(3)], {3: 4}, {"model_state": {}}])
def test_other_files_of_torch(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="is not a TimeSformer checkpoint"):
        TimeSformer(file(tmp_path, content), **SMALL)


def test_pictures_that_are_no_square(tmp_path: Path) -> None:
    weights = random_weights() | {"pos_embed": torch.zeros(1, 7, 24)}
    with pytest.raises(InputError, match="6 patches"):
        TimeSformer(file(tmp_path, weights), **SMALL)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = file(tmp_path, {"model_state": random_weights(), "optimizer": Evil()})
    with pytest.raises(InputError, match=r"would run \S*eval"):
        TimeSformer(path, **SMALL)
    tiny_models.timesformer(tmp_path / "folder")
    (tmp_path / "folder/model.safetensors").unlink()
    torch.save({"weight": Evil()}, tmp_path / "folder/pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load weights="):
        TimeSformer("folder", **SMALL)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file(tmp_path: Path, keep: float) -> None:
    path = Path(file(tmp_path, {"model_state": random_weights()}))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"model\.pyth .*(corrupt|truncated|more than data)"):
        TimeSformer(str(path), **SMALL)


def test_damaged_folders(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(InputError, match="no such file or folder"):
        TimeSformer(str(folder))
    folder.mkdir()
    with pytest.raises(InputError, match=r"m holds no config\.json"):
        TimeSformer(str(folder))
    tiny_models.timesformer(folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for cut in (0, 5, len(whole) // 2):
        weights.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="cannot load weights=.*m"):
            TimeSformer(str(folder))
    weights.unlink()
    with pytest.raises(InputError, match="cannot load weights=.*m"):
        TimeSformer(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 3}, "missing"),
        ({"num_hidden_layers": 1}, "unexpected"),
        ({"hidden_size": 32}, "shape|mismatch"),
        ({"model_type": "bert"}, "model of type 'bert'; this encoder takes timesformer"),
        ({"attention_type": "joint_space_time"}, "joint_space_time attention"),
    ],
)
def test_a_config_of_another_model(tmp_path: Path, change: dict[str, object], message: str) -> None:
    tiny_models.timesformer(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        TimeSformer(str(tmp_path), width=None, depth=None, heads=None)


def test_a_hub_model_that_is_not_here() -> None:
    with pytest.raises(InputError, match=r"facebook/timesformer-none.*folder.*HF_HUB_OFFLINE.*efficientnet_lite0"):
        TimeSformer("facebook/timesformer-none")
    with pytest.raises(InputError, match="weights is empty"):
        TimeSformer(" ")
