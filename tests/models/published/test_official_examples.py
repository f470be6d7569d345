"""Embeddings equal those of the official modules for tiny random checkpoints, where these samples are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.models.published import PublishedModel, load_published

PEERS = Path(__file__).parents[3].parent / "shared/data/peers"
pytestmark = pytest.mark.skipif(
    not PEERS.is_dir(), reason="needs the sample checkpoints, which the project does not ship"
)

FILES = {
    "lavila": ("lavila/clip_timesformer.pt", "lavila/clip_timesformer_io.npz", "lavila/config.json"),
    "avion": ("avion/vit_clip.pt", "avion/vit_clip_io.npz", "avion/config.json"),
    "egovlp": ("egovlp/egovlp.pth", "egovlp/egovlp_io.npz", "egovlp/config.json"),
    "egovlpv2": ("egovlpv2/egovlpv2.pth", "egovlpv2/egovlpv2_io.npz", "egovlpv2/config.json"),
    "egovideo": ("egovideo/egovideo.pth", "egovideo/egovideo_io.npz", "egovideo/config.json"),
    "pe": ("pe_core/pe_core.pt", "pe_core/pe_core_io.npz", "pe_core/config.json"),
    "siglip2": ("siglip2/open_clip_model.safetensors", "siglip2/siglip2_io.npz", "siglip2/open_clip_config.json"),
}
PRECISIONS = [(torch.float32, "f32", 1e-5), (torch.float64, "f64", 1e-9)]
CASES = [(kind, *precision) for kind in FILES for precision in PRECISIONS]


def opened(kind: str, dtype: torch.dtype) -> tuple[PublishedModel, dict[str, np.ndarray]]:
    weights, stored, sizes = (PEERS / name for name in FILES[kind])
    with np.load(stored) as found:
        return load_published(kind, weights, json.loads(sizes.read_text()), dtype=dtype), dict(found)


def close(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    torch.testing.assert_close(found, torch.from_numpy(expected).to(found.dtype), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("kind", "dtype", "suffix", "tolerance"), CASES)
def test_texts(kind: str, dtype: torch.dtype, suffix: str, tolerance: float) -> None:
    model, stored = opened(kind, dtype)
    ids = torch.from_numpy(stored["text_ids"])
    mask = torch.from_numpy(stored["text_mask"]) if "text_mask" in stored else None
    name = "own_f64_text_embed" if (kind, suffix) == ("egovideo", "f64") else f"text_embed_{suffix}"
    close(model.encode_text(ids, mask, normalize=False), stored[name], tolerance)
    if f"text_embed_normed_{suffix}" in stored:
        close(model.encode_text(ids, mask), stored[f"text_embed_normed_{suffix}"], tolerance)


@pytest.mark.parametrize(("kind", "dtype", "suffix", "tolerance"), CASES)
def test_videos(kind: str, dtype: torch.dtype, suffix: str, tolerance: float) -> None:
    model, stored = opened(kind, dtype)
    pixels = torch.from_numpy(stored["video"]).to(dtype).transpose(1, 2)
    if kind == "pe":
        close(model.encode_video(pixels, normalize=False), stored[f"video_embed_mean_of_raw_{suffix}"], tolerance)
        close(model.encode_video(pixels), stored[f"video_embed_mean_of_normed_{suffix}"], tolerance)
        image = torch.from_numpy(stored["image_pixels"]).to(dtype)
        close(model.encode_image(image, normalize=False), stored[f"image_embed_{suffix}"], tolerance)
    elif kind == "siglip2":
        image = torch.from_numpy(stored["image_pixels"]).to(dtype)
        found = model.encode_image(image)
        close(model.encode_image(image, normalize=False), stored[f"image_embed_{suffix}"], tolerance)
        text = model.encode_text(torch.from_numpy(stored["text_ids"]))
        logits = model.logit_scale * found @ text.T + model.logit_bias
        close(logits, stored[f"logits_image_text_{suffix}"], 30 * tolerance)  # the scale multiplies the rounding
        close(model.encode_image(pixels[0], normalize=False)[None], stored[f"video_frame_embed_{suffix}"], tolerance)
    else:
        fused = "fused_" if kind == "egovideo" else ""
        own = {"f64": "own_f64_image_embed", "f32": "image_embed_f32"}
        embed = f"{fused}{own[suffix]}" if kind == "egovideo" else f"image_embed_{suffix}"
        close(model.encode_video(pixels, normalize=False), stored[embed], tolerance)
        if (kind, suffix) != ("egovideo", "f64"):
            close(model.video_features(pixels), stored[f"{fused}image_features_{suffix}"], tolerance)
            close(model.encode_video(pixels), stored[f"{fused}image_embed_normed_{suffix}"], tolerance)


@pytest.mark.parametrize("kind", ["lavila", "avion", "pe", "siglip2"])
def test_scale(kind: str) -> None:
    model, stored = opened(kind, torch.float32)
    assert model.logit_scale == pytest.approx(float(stored["logit_scale_f32"]), rel=1e-6)


def test_egovideo_without_the_fused_mlp() -> None:
    from clep.models.published import egovideo
    from clep.models.published.checkpoint import read_checkpoint

    weights, stored, sizes = (PEERS / name for name in FILES["egovideo"])
    model = egovideo.build(read_checkpoint(weights), json.loads(sizes.read_text()), None, act="gelu")
    with np.load(stored) as found:
        pixels = torch.from_numpy(found["video"]).transpose(1, 2)
        close(model.encode_video(pixels, normalize=False), found["image_embed_f32"], 1e-5)
        assert np.abs(found["image_embed_f32"] - found["fused_image_embed_f32"]).max() > 1e-4
