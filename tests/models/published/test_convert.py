"""Checkpoints converted once: the same model under the same name, from files without code."""

import json
from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.models.published import load_published
from clep.preprocess.__main__ import main
from clep.weights import published_name
from tests.models.published import tiny_checkpoints as tiny
from tests.models.published.tiny_checkpoints import FRAMES, SIZE, SIZES, args, save

CLIP = (2, FRAMES, 3, SIZE, SIZE)


@pytest.mark.parametrize("kind", ["lavila", "egovlp", "siglip2"])
def test_a_converted_model_is_the_original_one(tmp_path: Path, kind: str) -> None:
    state = {"lavila": tiny.lavila, "egovlp": tiny.egovlp, "siglip2": tiny.siglip2}[kind]()
    first, second = (name for name in list(state) if name.endswith("norm1.weight"))
    state[second] = state[first]  # tied weights share memory, which safetensors refuses
    source, folder = tmp_path / "original", tmp_path / "converted"
    source.mkdir()
    weights = save(
        source / "weights.pt", state, args=args("CLIP_TIMESFORMER_BASE"), optimizer={"large": torch.ones(99)}
    )
    (source / "open_clip_config.json").write_text(json.dumps(tiny.open_clip_config()))
    (tmp_path / "sizes.json").write_text(json.dumps(SIZES))
    command = ["convert_weights", f"kind={kind}", f"weights={weights}", f"output={folder}"]
    command += [] if kind == "siglip2" else [f"sizes={tmp_path / 'sizes.json'}"]
    assert main(command) == 0
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {"model.safetensors", "published.json"}
    original = load_published(kind, weights, None if kind == "siglip2" else SIZES)
    converted = load_published(kind, folder)
    pixels = torch.randn(CLIP)
    torch.testing.assert_close(converted.encode_video(pixels), original.encode_video(pixels), rtol=0, atol=0)
    ids = torch.randint(1, 200, (2, 9))
    torch.testing.assert_close(converted.encode_text(ids), original.encode_text(ids), rtol=0, atol=0)
    assert converted.clip == original.clip  # with the pixels of the architecture that the arguments name
    assert converted.logit_scale == original.logit_scale
    assert converted.name == original.name == published_name(kind, folder)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert main(command) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_a_file_with_a_flipped_bit_is_not_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, sizes = save(tmp_path / "a.pt", tiny.lavila(), args=args()), tmp_path / "sizes.json"
    sizes.write_text(json.dumps(SIZES))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    command = ["convert_weights", "kind=lavila", f"weights={weights}", f"sizes={sizes}", f"output={tmp_path / 'out'}"]
    assert main(command) == 1
    assert "a.pt is damaged" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("[!.]*"))


def test_a_file_saved_without_checksums_is_converted(tmp_path: Path) -> None:
    before, sizes = torch.serialization.get_crc32_options(), tmp_path / "sizes.json"
    torch.serialization.set_crc32_options(False)
    try:
        weights = save(tmp_path / "a.pt", tiny.lavila(), args=args())
    finally:
        torch.serialization.set_crc32_options(before)
    sizes.write_text(json.dumps(SIZES))
    assert main(["convert_weights", "kind=lavila", f"weights={weights}", f"sizes={sizes}", f"output={tmp_path}"]) == 0
    assert (tmp_path / "model.safetensors").is_file()


def test_what_cannot_be_converted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lavila = save(tmp_path / "a.pt", tiny.lavila(), args=args())
    (tmp_path / "a.json").write_text(json.dumps(SIZES))
    folder = tmp_path / "folder"
    assert main(["convert_weights", "kind=avion", f"weights={lavila}", f"output={folder}"]) == 1
    assert "a.pt is not a checkpoint of avion" in " ".join(capsys.readouterr().err.split())
    assert not (folder / "model.safetensors").exists()
    assert main(["convert_weights", "kind=lavila", f"weights={lavila}", f"output={folder}"]) == 0
    with pytest.raises(InputError, match="was converted from a checkpoint of lavila, not of avion"):
        load_published("avion", folder)
    other = save(tmp_path / "b.pt", tiny.lavila(), args=args())
    assert main(["convert_weights", "kind=lavila", f"weights={other}", f"output={folder}"]) == 1
    assert "holds another model" in " ".join(capsys.readouterr().err.split())
