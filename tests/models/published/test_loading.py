import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clep.errors import InputError
from clep.models.published import load_published
from clep.models.published.checkpoint import read_checkpoint
from clep.models.published.pixels import IMAGENET_MEAN, LAVILA_MEAN
from clep.models.published.sentences import PublishedSentences
from tests.models.published import tiny_checkpoints as tiny
from tests.models.published.tiny_checkpoints import DIM, FRAMES, SIZE, SIZES, args, save

PIXELS = (2, FRAMES, 3, SIZE, SIZE)
MAKERS: dict[str, Callable[[], dict[str, torch.Tensor]]] = {
    "lavila": tiny.lavila,
    "avion": tiny.avion,
    "egovlp": tiny.egovlp,
}


class RunsCode:
    """What a malicious checkpoint would hold."""

    def __reduce__(self):
        return os.system, ('touch "$CLEP_TEST_CANARY"',)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("half", [False, True])
def test_a_checkpoint_embeds_clips_and_sentences_of_unit_length(tmp_path: Path, kind: str, half: bool) -> None:
    state = MAKERS[kind]()
    if half:
        state = {name: value.half() for name, value in state.items()}
    model = load_published(kind, save(tmp_path / "a.pt", state, args=args()), SIZES)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    video = model.encode_video(torch.randn(PIXELS))
    text = model.encode_text(torch.randint(1, tiny.VOCABULARY, (3, 9)))
    assert video.shape == (2, DIM)
    assert text.shape == (3, DIM)
    torch.testing.assert_close(video.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(text.norm(dim=1), torch.ones(3))


def test_safetensors_a_folder_and_a_bare_state_dict_give_the_same_model(tmp_path: Path) -> None:
    state, pixels = tiny.lavila(), torch.randn(PIXELS)
    wrapped = load_published("lavila", save(tmp_path / "a.pt", state, args=args()), SIZES).encode_video(pixels)
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    torch.save(state, tmp_path / "bare.pth")
    for weights in (folder, folder / "model.safetensors", tmp_path / "bare.pth"):
        torch.testing.assert_close(
            load_published("lavila", weights, SIZES).encode_video(pixels), wrapped, rtol=0, atol=0
        )


def test_avion_fused_and_plain_layouts_give_the_same_model(tmp_path: Path) -> None:
    fused = tiny.avion()
    plain = {
        name.replace("Wqkv.", "in_proj_").replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj"): value
        for name, value in fused.items()
    }
    plain["visual.conv1.weight"] = fused["visual.conv1.weight"].reshape(-1, 3, tiny.PATCH, tiny.PATCH)
    assert plain.keys() != fused.keys()
    pixels = torch.randn(PIXELS)
    found = [
        load_published("avion", save(tmp_path / f"{i}.pt", state, args=args()), SIZES).encode_video(pixels)
        for i, state in enumerate((fused, plain))
    ]
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_egovlp_and_its_conversion_by_lavila_give_the_same_embeddings(tmp_path: Path) -> None:
    own = tiny.egovlp()
    names = {"video_model.": "visual.", "text_model.": "textual.", "vid_proj.": "image_projection."}
    names |= {"txt_proj.": "text_projection."}
    converted = {
        next(theirs + name[len(start) :] for start, theirs in names.items() if name.startswith(start)): value
        for name, value in own.items()
    }
    pixels, ids = torch.randn(PIXELS), torch.randint(1, 200, (2, 7))
    models = [
        load_published("egovlp", save(tmp_path / "a.pth", own), SIZES),
        load_published("egovlp", save(tmp_path / "b.pth", converted), SIZES),
        load_published("lavila", tmp_path / "b.pth", SIZES),
    ]
    for other in models[1:]:
        torch.testing.assert_close(other.encode_video(pixels), models[0].encode_video(pixels), rtol=0, atol=0)
        torch.testing.assert_close(other.encode_text(ids), models[0].encode_text(ids), rtol=0, atol=0)
    assert models[0].clip.frame_rule == "egovlp"
    assert models[1].clip.frame_rule == "lavila"


def test_lavila_pixels_depend_on_the_architecture_that_the_file_names(tmp_path: Path) -> None:
    state = tiny.lavila()
    openai = load_published("lavila", save(tmp_path / "a.pt", state, args=args()), SIZES)
    other = load_published("lavila", save(tmp_path / "b.pt", state, args=args("CLIP_TIMESFORMER_BASE")), SIZES)
    assert openai.clip.mean == LAVILA_MEAN
    assert other.clip.mean == IMAGENET_MEAN
    assert openai.clip.mean[0] * 255 == pytest.approx(108.3272985)  # not CLIP's 122.77


@pytest.mark.parametrize(
    ("kind", "frames", "expected"),
    [("lavila", 6, "interpolated"), ("avion", 6, "interpolated"), ("egovlp", 6, "zeros"), ("lavila", 2, "first")],
)
def test_other_frame_counts_as_the_official_loaders_fit_them(
    tmp_path: Path, kind: str, frames: int, expected: str
) -> None:
    state = MAKERS[kind]()
    names = {
        "lavila": "visual.temporal_embed",
        "avion": "visual.temporal_embedding",
        "egovlp": "video_model.temporal_embed",
    }
    old = state[names[kind]].reshape(FRAMES, -1).clone()
    model = load_published(kind, save(tmp_path / "a.pt", state, args=args()), SIZES, frames=frames)
    new = model.state_dict()[names[kind]].reshape(frames, -1)
    if expected == "first":
        torch.testing.assert_close(new, old[:frames])
    elif expected == "zeros":
        torch.testing.assert_close(new, torch.cat([old, torch.zeros(frames - FRAMES, old.shape[1])]))
    else:  # by hand: corners not aligned
        position = ((torch.arange(frames) + 0.5) * FRAMES / frames - 0.5).clamp(0, FRAMES - 1)
        low = position.floor().long()
        high = (low + 1).clamp(max=FRAMES - 1)
        part = (position - low)[:, None]
        torch.testing.assert_close(new, old[low] * (1 - part) + old[high] * part)
    assert model.encode_video(torch.randn(1, frames, 3, SIZE, SIZE)).shape == (1, DIM)
    with pytest.raises(InputError, match=f"takes {frames} frames"):
        model.encode_video(torch.randn(1, frames + 1, 3, SIZE, SIZE))


def test_clips_with_colours_first_are_refused(tmp_path: Path) -> None:
    model = load_published("lavila", save(tmp_path / "a.pt", tiny.lavila(), args=args()), SIZES)
    with pytest.raises(InputError, match=r"\[batch, frames, 3, height, width\].*transpose\(1, 2\)"):
        model.encode_video(torch.randn(1, 3, FRAMES, SIZE, SIZE))
    with pytest.raises(InputError, match=f"{FRAMES} frames of {SIZE}x{SIZE}"):
        model.encode_video(torch.randn(1, FRAMES, 3, SIZE, SIZE * 2))


def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEP_TEST_CANARY", str(tmp_path / "canary"))
    path = save(tmp_path / "a.pt", tiny.lavila(), args=RunsCode())
    with pytest.raises(InputError, match=r"a\.pt holds more than tensors.*not loaded"):
        load_published("lavila", path, SIZES)
    (tmp_path / "b.pt").write_bytes(pickle.dumps({"state_dict": RunsCode()}))
    with pytest.raises(InputError, match=r"b\.pt"):
        load_published("lavila", tmp_path / "b.pt", SIZES)
    assert not (tmp_path / "canary").exists()


def test_the_config_object_of_egovlp_is_read_as_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    module = ModuleType("parse_config")
    module.ConfigParser = type("ConfigParser", (), {"__module__": "parse_config"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parse_config", module)
    config = module.ConfigParser()  # type: ignore[attr-defined]
    config.save_dir, config.resume = Path("results"), None
    path = save(tmp_path / "egovlp.pth", tiny.egovlp(), config=config, arch="FrozenInTime")
    monkeypatch.delitem(sys.modules, "parse_config")
    assert load_published("egovlp", path, SIZES).dim == DIM


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_half_a_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = save(tmp_path / "a.pt", tiny.lavila(), args=args())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=r"a\.pt.*(download it again|not loaded|holds no weights)"):
        load_published("lavila", path, SIZES)


@pytest.mark.parametrize("frames", [2, 6])
def test_egovlpv2_fits_frames_with_aligned_corners_or_takes_the_first(tmp_path: Path, frames: int) -> None:
    state = tiny.egovlpv2()
    old = state["video_model.temporal_embed"][0].clone()
    model = load_published("egovlpv2", save(tmp_path / "a.pth", state), SIZES, frames=frames)
    if frames < FRAMES:
        expected = old[:frames]
    else:  # by hand: the first and the last stay where they are
        position = torch.arange(frames) * (FRAMES - 1) / (frames - 1)
        low = position.floor().long()
        part = (position - low)[:, None]
        expected = old[low] * (1 - part) + old[(low + 1).clamp(max=FRAMES - 1)] * part
    torch.testing.assert_close(model.state_dict()["video_model.temporal_embed"][0], expected)


def test_models_whose_loaders_fit_nothing_refuse_other_clips(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", tiny.egovideo())
    with pytest.raises(InputError, match=r"64 patches, which is 4 frames of 32x32; the official loader takes no other"):
        load_published("egovideo", path, SIZES, frames=8)
    with pytest.raises(InputError, match="the official loader takes no other"):
        load_published("egovideo", path, SIZES | {"frames": 3})
    model = load_published("egovideo", path, SIZES)
    with pytest.raises(InputError, match="takes 4 frames of 32x32 pixels, not 4 of 64x64"):
        model.encode_video(torch.randn(1, 4, 3, 64, 64))
    state = tiny.avion()
    del state["visual.temporal_embedding"]
    single = save(tmp_path / "b.pt", state, args=args())
    assert load_published("avion", single, SIZES | {"frames": 1}).clip.frames == 1
    with pytest.raises(InputError, match="trained on single frames and has no temporal embedding; use frames=1"):
        load_published("avion", single, SIZES | {"frames": 1}, frames=4)


FAMILIES = ("lavila", "avion", "egovlp", "egovlpv2", "egovideo", "pe", "siglip2")


@pytest.mark.parametrize("held", FAMILIES)
def test_a_checkpoint_of_another_family_is_refused(tmp_path: Path, held: str) -> None:
    path = save(tmp_path / "a.pt", getattr(tiny, held)(), args=args())
    for kind in FAMILIES:
        if kind != held:
            with pytest.raises(
                InputError, match=rf"a\.pt is not a checkpoint of {kind}: .*named as those of '{held}'$"
            ):
                load_published(kind, path, SIZES)


def test_a_compressed_file_is_read_and_not_mapped(tmp_path: Path) -> None:
    """PyTorch maps a compressed file without complaint and returns its bytes as weights."""
    path, packed = save(tmp_path / "a.pt", tiny.lavila(), args=args()), tmp_path / "b.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert packed.stat().st_size < path.stat().st_size
    pixels = torch.randn(PIXELS)
    rows = [load_published("lavila", weights, SIZES).encode_video(pixels) for weights in (path, packed)]
    torch.testing.assert_close(*rows, rtol=0, atol=0)


def test_half_of_a_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(tiny.lavila(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"a\.safetensors is not a complete safetensors file.*download it again"):
        load_published("lavila", path, SIZES)


def test_errors_name_family_size_and_tensor(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", tiny.lavila(), args=args())
    lacks = r"a\.pt is not a checkpoint of avion: it lacks visual\.class_embedding.*named as those of 'lavila'$"
    with pytest.raises(InputError, match=lacks):
        load_published("avion", path, SIZES)
    with pytest.raises(InputError, match=r"/.*: no released model is 16 wide.*sizes=\{'vision_heads'"):
        load_published("lavila", path)
    with pytest.raises(InputError, match=r"vision_layers=2, but sizes\['vision_layers'\]=12"):
        load_published("lavila", path, SIZES | {"vision_layers": 12})
    with pytest.raises(InputError, match=r"sizes\['vision_heads'\]=3 does not divide the width 16"):
        load_published("lavila", path, SIZES | {"vision_heads": 3})
    with pytest.raises(InputError, match=r"kind='lavilla'.*lavila"):
        load_published("lavilla", path)
    with pytest.raises(InputError, match="there is no such file"):
        load_published("lavila", tmp_path / "b.pt")
    state = tiny.lavila()
    del state["visual.blocks.1.mlp.fc2.bias"]
    with pytest.raises(InputError, match=r"1 missing \(visual\.blocks\.1\.mlp\.fc2\.bias\)"):
        load_published("lavila", save(tmp_path / "c.pt", state), SIZES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"should hold one checkpoint.*none"):
        load_published("lavila", tmp_path / "empty")


@pytest.mark.parametrize(
    "change",
    [
        {"visual.positional_embedding": torch.tensor(1.0)},
        {"text_projection": torch.zeros(0)},
        {"logit_scale": torch.ones(2)},
        {"visual.proj": torch.zeros(16, DIM, dtype=torch.int8)},
        {"transformer.resblocks.0.mlp.c_fc.weight": None},
    ],
)
def test_tensors_of_another_shape_or_type_are_refused(tmp_path: Path, change: dict[str, torch.Tensor | None]) -> None:
    state = {name: value for name, value in (tiny.pe() | change).items() if value is not None}
    with pytest.raises(InputError, match=r"a\.pt "):
        load_published("pe", save(tmp_path / "a.pt", state), SIZES)


def test_the_arguments_of_training_are_plain_values(tmp_path: Path) -> None:
    found = read_checkpoint(save(tmp_path / "a.pt", tiny.lavila(), args=args())).args
    assert found == {"model": "CLIP_OPENAI_TIMESFORMER_BASE", "project_embed_dim": DIM}


@pytest.mark.parametrize("kind", ["lavila", "avion", "egovlp", "egovlpv2", "egovideo", "pe", "siglip2"])
def test_the_text_side_can_be_sent_to_other_processes(tmp_path: Path, kind: str) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps(tiny.open_clip_config()))
    folder = tiny.words_tokenizer(tmp_path / "tokenizer", ["opens", "the", "door"])
    sizes = None if kind == "siglip2" else SIZES
    model = load_published(kind, save(tmp_path / "a.pt", getattr(tiny, kind)()), sizes, tokenizer=str(folder))
    module = PublishedSentences(model)
    copy = pickle.loads(pickle.dumps(module))
    features = [one.forward(one.preprocess(["opens the door", "the"])) for one in (module, copy)]
    torch.testing.assert_close(features[1]["sentence_embedding"], features[0]["sentence_embedding"], rtol=0, atol=0)
    assert features[0]["sentence_embedding"].shape == (2, model.dim)
