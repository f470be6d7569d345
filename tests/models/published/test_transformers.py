"""CLIP and SigLIP of transformers as encoders of both sides, against transformers' own forward passes."""

from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.models import JointSpace
from clep.models.published import PublishedEncoder, load_published, load_sentence_encoder
from tests.text.test_image_text_sentences import SENTENCES, clip_folder, siglip_folder
from tests.video.encoders import tiny_models


@pytest.mark.parametrize(("kind", "make"), [("clip", clip_folder), ("siglip2", siglip_folder)])
def test_both_sides(tmp_path: Path, kind: str, make) -> None:
    folder = make(tmp_path / kind)
    model = {"clip": tiny_models.CLIPModel, "siglip2": tiny_models.SiglipModel}[kind].from_pretrained(folder).eval()
    clips = torch.randn(2, 5, 3, 16, 16)
    with torch.no_grad():
        images = model.get_image_features(pixel_values=clips.flatten(0, 1)).pooler_output
        pooled = model.vision_model(pixel_values=clips.flatten(0, 1)).pooler_output
    encoder = PublishedEncoder(kind, str(folder), frames=5)
    unit = torch.nn.functional.normalize(images, dim=-1).unflatten(0, (2, 5)).mean(1)
    torch.testing.assert_close(encoder(clips), unit, atol=1e-6, rtol=1e-5)
    assert encoder.frame_wise
    features = PublishedEncoder(kind, str(folder), output="features")
    torch.testing.assert_close(features(clips), pooled.unflatten(0, (2, 5)).mean(1), atol=1e-6, rtol=1e-5)
    assert (encoder.dim, features.dim) == (images.shape[1], 16)

    texts = load_sentence_encoder(f"{kind}:{folder}", "cpu", batch_size=2)
    assert texts.name == load_published(kind, folder).name
    assert encoder.name == f"{texts.name}-5f"
    published = load_published(kind, folder)
    tokens = published.tokenize(SENTENCES)
    with torch.no_grad():
        attended = {} if kind == "siglip2" else {"attention_mask": tokens.mask}
        expected = model.get_text_features(input_ids=tokens.ids, **attended).pooler_output
    torch.testing.assert_close(torch.from_numpy(texts.encode(SENTENCES)), expected, atol=1e-5, rtol=1e-5)
    joint = JointSpace(f"{kind}:{folder}")
    assert joint.logit_scale.item() == pytest.approx(model.logit_scale.exp().item())
    assert (joint.logit_bias is None) == (kind == "clip")


def test_another_type_of_model_is_refused(tmp_path: Path) -> None:
    tiny_models.timesformer(tmp_path / "other")
    with pytest.raises(InputError, match="of type 'timesformer'"):
        load_published("clip", tmp_path / "other")
    with pytest.raises(InputError, match="there is no model weights=openai/clip-none"):
        load_published("clip", "openai/clip-none")
    with pytest.raises(InputError, match="kind='lavilla' is not a published model.*lavila"):
        load_sentence_encoder(f"lavilla:{tmp_path / 'a.pt'}")
