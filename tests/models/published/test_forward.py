"""Every family against its forward pass written out, in float64 to 1e-9.

A wrong reading differs by more: another activation, epsilon, residual sum, order of tokens, pooling or projection.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from clep.models.published import PublishedModel, load_published
from tests.models.published import reference as ref
from tests.models.published import tiny_checkpoints as tiny
from tests.models.published.reference import State, exact_gelu, quick_gelu
from tests.models.published.tiny_checkpoints import FRAMES, PATCH, SIZE, SIZES, VOCABULARY, args, save

HEADS = 2


def double(state: State) -> State:
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


def opened(tmp_path: Path, kind: str, state: State, sizes: dict = SIZES) -> PublishedModel:
    if kind == "siglip2":
        (tmp_path / "open_clip_config.json").write_text(json.dumps(tiny.open_clip_config()))
        return load_published(kind, save(tmp_path / "a.pt", state), dtype=torch.float64)
    return load_published(kind, save(tmp_path / "a.pt", state, args=args()), sizes, dtype=torch.float64)


def clips(state: State) -> Tensor:
    return torch.randn(2, FRAMES, 3, SIZE, SIZE, dtype=torch.float64)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def project(state: State, features: Tensor) -> Tensor:
    """EgoVLPv2's three layers without bias, ReLU between them."""
    for name in ("vid_proj.0", "vid_proj.2"):
        features = linear(features, state[f"{name}.weight"]).relu()
    return linear(features, state["vid_proj.4.weight"])


VIDEOS: dict[str, tuple[Callable[[], State], Callable[[State, Tensor], Tensor]]] = {
    "lavila": (
        tiny.lavila,
        lambda state, x: ref.space_time(state, "visual.", x, HEADS, quick_gelu, 1e-6) @ state["image_projection"],
    ),
    "avion": (tiny.avion, lambda state, x: ref.avion_video(state, x, HEADS)),
    "egovlp": (
        tiny.egovlp,
        lambda state, x: ref.dense(
            state, "vid_proj.0", ref.space_time(state, "video_model.", x, HEADS, exact_gelu, 1e-6)
        ),
    ),
    "egovlpv2": (
        tiny.egovlpv2,
        lambda state, x: project(state, ref.space_time(state, "video_model.", x, HEADS, exact_gelu, 1e-5)),
    ),
    "egovideo": (tiny.egovideo, lambda state, x: ref.egovideo_video(state, x, HEADS, HEADS)),
    "pe": (
        tiny.pe,
        lambda state, x: torch.stack([ref.pe_image(state, clip, HEADS).mean(0) for clip in x]),
    ),
    "siglip2": (
        tiny.siglip2,
        lambda state, x: torch.stack([ref.siglip_image(state, clip, HEADS).mean(0) for clip in x]),
    ),
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_videos(tmp_path: Path, kind: str) -> None:
    make, forward = VIDEOS[kind]
    state = double(make())
    pixels = clips(state)
    close(opened(tmp_path, kind, state).encode_video(pixels, normalize=False), forward(state, pixels))


def first_token(state: State, ids: Tensor, mask: Tensor) -> Tensor:
    return ref.distilbert_text(state, "text_model.", ids, mask, HEADS)


def roberta(state: State, ids: Tensor, mask: Tensor) -> Tensor:
    """Positions of RoBERTa start at 2; padding has position 1."""
    counted = (ids != 1).long()
    return ref.bert_text(state, "text_model.", ids, mask, HEADS, 1e-5, 2, counted.cumsum(1) * counted + 1)


def three_layers(state: State, features: Tensor) -> Tensor:
    for name in ("txt_proj.0", "txt_proj.2"):
        features = linear(features, state[f"{name}.weight"]).relu()
    return linear(features, state["txt_proj.4.weight"])


TEXTS: dict[str, Callable[[State, Tensor, Tensor], Tensor]] = {
    "lavila": lambda state, ids, _: ref.clip_text(state, "", ids, HEADS, quick_gelu),
    "avion": lambda state, ids, _: ref.clip_text(state, "textual.", ids, HEADS, exact_gelu),
    # ReLU comes before the linear layer.
    "egovlp": lambda state, ids, mask: ref.dense(state, "txt_proj.1", first_token(state, ids, mask).relu()),
    "egovlpv2": lambda state, ids, mask: three_layers(state, roberta(state, ids, mask)),
    # 19 of the 21 layers, and no pooler.
    "egovideo": lambda state, ids, mask: (
        ref.bert_text(state, "textual.", ids, mask, HEADS, 1e-12, 19, torch.arange(9)) @ state["text_projection"]
    ),
    "pe": lambda state, ids, _: ref.clip_text(state, "", ids, HEADS, exact_gelu),
    "siglip2": lambda state, ids, _: ref.siglip_text(state, ids, HEADS),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts(tmp_path: Path, kind: str) -> None:
    state = double(VIDEOS[kind][0]())
    ids = torch.randint(2, VOCABULARY, (3, 9))
    ids[1, 6:] = 1 if kind == "egovlpv2" else 0
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 6:] = False
    model = opened(tmp_path, kind, state)
    close(model.encode_text(ids, mask, normalize=False), TEXTS[kind](state, ids, mask))
    close(model.encode_text(ids, mask).norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_pe_without_a_class_token_counts_positions_from_zero(tmp_path: Path) -> None:
    state = double(tiny.pe(class_token=False))
    images = clips(state)[0]
    close(opened(tmp_path, "pe", state).encode_image(images, normalize=False), ref.pe_image(state, images, HEADS))


def test_pe_averages_unit_vectors_to_one_that_is_not_of_unit_length(tmp_path: Path) -> None:
    state = double(tiny.pe())
    pixels = clips(state)
    frames = torch.stack([ref.pe_image(state, clip, HEADS) for clip in pixels])
    found = opened(tmp_path, "pe", state).encode_video(pixels)
    close(found, (frames / frames.norm(dim=-1, keepdim=True)).mean(1))
    assert (found.norm(dim=1) < 0.999).all()


def test_pe_takes_other_sizes_by_bilinear_positions(tmp_path: Path) -> None:
    state = double(tiny.pe())
    model = opened(tmp_path, "pe", state)
    images = torch.randn(1, 3, SIZE // 2, SIZE // 2, dtype=torch.float64)
    grid = state["visual.positional_embedding"][1:].reshape(SIZE // PATCH, SIZE // PATCH, -1)
    halved = (grid[0::2, 0::2] + grid[1::2, 0::2] + grid[0::2, 1::2] + grid[1::2, 1::2]) / 4  # no antialiasing needed
    state["visual.positional_embedding"] = torch.cat([state["visual.positional_embedding"][:1], halved.flatten(0, 1)])
    close(model.encode_image(images, normalize=False), ref.pe_image(state, images, HEADS))


def test_lavila_with_distilbert_takes_its_first_token(tmp_path: Path) -> None:
    state = tiny.lavila()
    state = {
        name: value for name, value in state.items() if name in tiny.space_time("visual.", ln_pre=True, bias=False)
    }
    state |= tiny.distilbert("textual.")
    state |= {"image_projection": tiny.random(16, 24), "text_projection": tiny.random(32, 24)}
    state = double(state | {"logit_scale": torch.tensor(2.5)})
    ids, mask = torch.randint(2, VOCABULARY, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    mask[0, 4:] = False
    expected = ref.distilbert_text(state, "textual.", ids, mask, HEADS) @ state["text_projection"]
    close(opened(tmp_path, "lavila", state).encode_text(ids, mask, normalize=False), expected)


def test_egovlpv2_with_small_projections_has_egovlps(tmp_path: Path) -> None:
    state = double(tiny.egovlpv2(small=True))
    ids, mask = torch.randint(2, VOCABULARY, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    expected = ref.dense(state, "txt_proj.1", roberta(state, ids, mask).relu())
    close(opened(tmp_path, "egovlpv2", state).encode_text(ids, mask, normalize=False), expected)


def test_siglip_scores_have_a_scale_and_a_bias(tmp_path: Path) -> None:
    model = opened(tmp_path, "siglip2", double(tiny.siglip2()))
    assert model.logit_scale == pytest.approx(torch.tensor(4.7).double().exp().item())
    assert model.logit_bias == pytest.approx(-16.5)
