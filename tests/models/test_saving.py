import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from clep.errors import InputError
from clep.models import DualEncoder, saving

CONFIG = {
    "video": {"_target_": "clep.models.ProjectionHead", "in_dim": 6, "out_dim": 4, "dropout": 0.5},
    "text": {"_target_": "torch.nn.Linear", "in_features": 5, "out_features": 4},
    "scale_form": "raw",
    "normalize": False,
}
METADATA = {
    "sentence_encoder": "all-mpnet-base-v2",
    "tag_style": "clean",
    "prompts": {"kinetics": ["The person in this video is doing {}"]},
    "bank_encoder": "omnivore",
    "window": {"offset_s": 2.0, "align": "centre"},
}


@pytest.fixture
def saved(tmp_path):
    model = DualEncoder.from_config({**CONFIG, "metadata": METADATA})
    with torch.no_grad():
        model.log_scale.fill_(1.25)
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


def edit(folder, change, on_purpose=True):
    content = json.loads((folder / "config.json").read_text())
    change(content)
    if on_purpose:
        content.pop("config_digest")
    (folder / "config.json").write_text(json.dumps(content))


def test_a_loaded_model_equals_the_saved_one(saved):
    model, folder = saved
    loaded = DualEncoder.from_pretrained(folder)
    assert not loaded.training
    assert loaded.metadata == METADATA
    assert loaded.config == model.config
    assert loaded.scale_form == "raw"
    assert loaded.log_scale.item() == 1.25
    batch = {"video": torch.randn(3, 6), "text": torch.randn(3, 5)}
    assert torch.equal(loaded.encode_video(batch), model.eval().encode_video(batch))
    loaded.save_pretrained(folder)
    DualEncoder.from_pretrained(folder)


def test_the_folder_holds_no_pickle(saved):
    _, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text())["model"] == CONFIG


def test_metadata_set_later_is_saved_and_a_config_may_be_edited(saved):
    model, folder = saved
    model.metadata["tag_style"] = "tutorial"
    model.save_pretrained(folder)
    edit(folder, lambda content: content["metadata"].update(bank_encoder="other"))
    assert DualEncoder.from_pretrained(folder).metadata == {
        **METADATA,
        "tag_style": "tutorial",
        "bank_encoder": "other",
    }


def test_an_edited_config_with_its_old_checksum_is_refused_with_the_remedy(saved):
    _, folder = saved
    edit(folder, lambda content: content["metadata"].update(bank_encoder="other"), on_purpose=False)
    with pytest.raises(InputError, match=r"config\.json is damaged.*remove the line config_digest"):
        DualEncoder.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "zero"])
def test_damage_is_an_error_or_changes_nothing(saved, name, damage):
    model, folder = saved
    draw, path = random.Random(f"{name} {damage}"), folder / name
    whole, weights, refused = path.read_bytes(), model.state_dict(), 0
    for _ in range(150):
        content, at = bytearray(whole), draw.randrange(len(whole))
        if damage == "flip":
            content[at] ^= 1 << draw.randrange(8)
        else:
            content[at : at + 16] = bytes(len(content[at : at + 16]))
        path.write_bytes(content)
        try:
            loaded = DualEncoder.from_pretrained(folder)
        except InputError:
            refused += 1
            continue
        assert (loaded.config, loaded.metadata) == (model.config, METADATA)
        assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())
    assert refused >= 100  # changed blanks and line ends, and zeroed zeros, have no effect


def test_weights_without_a_checksum_are_read_with_a_warning(saved, caplog):
    model, folder = saved
    save_file(model.state_dict(), folder / "model.safetensors")
    loaded = DualEncoder.from_pretrained(folder)
    assert torch.equal(loaded.log_scale, model.log_scale)
    assert "model.safetensors has no checksums" in caplog.text


def test_a_model_without_config_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match="from_config"):
        DualEncoder(nn.Linear(2, 2), nn.Linear(2, 2)).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_another_architecture_is_refused_with_all_tensors(saved):
    _, folder = saved
    state = load_file(folder / "model.safetensors")
    state["video.7.weight"] = state.pop("text.bias")
    state["log_scale"] = torch.zeros(2)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError) as error:
        DualEncoder.from_pretrained(folder)
    message = str(error.value)
    assert "missing in the file: text.bias" in message
    assert "not in the model: video.7.weight" in message
    assert "log_scale (file [2], model [])" in message
    assert str(folder) in message
    assert "config" in message


def test_truncated_weights(saved):
    _, folder = saved
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size in (0, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"model.safetensors is truncated"):
            DualEncoder.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    _, folder = saved
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} does not exist"):
        DualEncoder.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), "does not describe a clep model"),
        (lambda c: c.update(version=2), "reads version 1"),
        (lambda c: c.update(model=[]), "does not describe a clep model"),
        (lambda c: c["model"]["video"].update(_target_="os.system"), r"config.json: model.video._target_='os.system'"),
        (lambda c: c["model"]["video"].update(_target_="clep.data.Window"), "not an nn.Module"),
        (lambda c: c["model"].pop("text"), r"model: DualEncoder needs 'text'"),
    ],
)
def test_an_invalid_config_is_refused(saved, change, message):
    _, folder = saved
    edit(folder, change)
    with pytest.raises(InputError, match=message):
        DualEncoder.from_pretrained(folder)


def test_a_save_interrupted_between_its_files_is_detected(saved, monkeypatch):
    _, folder = saved
    other = DualEncoder.from_config({**CONFIG, "normalize": True})

    def interrupted(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        other.save_pretrained(folder)
    with pytest.raises(InputError, match="two different saves"):
        DualEncoder.from_pretrained(folder)


def test_a_full_disk_leaves_the_old_model(saved, monkeypatch):
    model, folder = saved

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        model.save_pretrained(folder)
    monkeypatch.undo()
    DualEncoder.from_pretrained(folder)


def test_tied_towers_are_saved_twice(tmp_path):
    model = DualEncoder.from_config({**CONFIG, "video": CONFIG["text"]})
    model.video = model.text
    model.save_pretrained(tmp_path)
    loaded = DualEncoder.from_pretrained(tmp_path)
    assert torch.equal(loaded.video.weight, loaded.text.weight)
