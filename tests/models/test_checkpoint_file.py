"""Damage anywhere in a checkpoint is detected."""

import random
from pathlib import Path

import pytest
import torch

from clep import checksums
from clep.errors import InputError
from clep.models import read_checkpoint, write_checkpoint

CONTENT = {"state_dict": {"weight": torch.arange(3000.0), "bias": torch.ones(7)}, "global_step": 12, "name": "x" * 50}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "a.ckpt", CONTENT)
    return tmp_path / "a.ckpt"


def same(found: dict) -> bool:
    weights = found["state_dict"]
    return (
        set(found) == set(CONTENT)
        and all(torch.equal(weights[name], value) for name, value in CONTENT["state_dict"].items())
        and (found["global_step"], found["name"]) == (12, CONTENT["name"])
    )


def test_a_written_checkpoint_is_read_also_by_torch(path: Path) -> None:
    assert same(read_checkpoint(path))
    assert same(torch.load(path, weights_only=True))


@pytest.mark.parametrize("damage", ["flip", "zero", "truncate"])
def test_damage_is_an_error_or_changes_nothing(path: Path, damage: str) -> None:
    draw, whole = random.Random(damage), path.read_bytes()
    messages: list[str] = []
    for _ in range(200):
        content, at = bytearray(whole), draw.randrange(len(whole))
        if damage == "flip":
            content[at] ^= 1 << draw.randrange(8)
        elif damage == "zero":
            content[at : at + 64] = bytes(len(content[at : at + 64]))
        else:
            content = content[:at]
        path.write_bytes(content)
        try:
            assert same(read_checkpoint(path))
        except InputError as error:
            messages.append(str(error))
    assert len(messages) >= {"flip": 200, "zero": 150, "truncate": 200}[damage]  # zeroed zeros have no effect
    assert all(str(path) in message for message in messages)


def test_every_flipped_bit_of_the_digest_is_detected(path: Path) -> None:
    whole = path.read_bytes()
    for at in range(len(whole) - 32, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"a\.ckpt is damaged: the file does not match.*ckpt_path=last"):
            read_checkpoint(path)


def test_a_checkpoint_without_checksum_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_warned", set())
    torch.save(CONTENT, tmp_path / "old.ckpt")
    for _ in range(2):
        assert same(read_checkpoint(tmp_path / "old.ckpt"))
    assert caplog.text.count("old.ckpt has no checksums") == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.ckpt does not exist"):
        read_checkpoint(tmp_path / "none.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    with pytest.raises(InputError, match=r"list\.ckpt is not a checkpoint"):
        read_checkpoint(tmp_path / "list.ckpt")
