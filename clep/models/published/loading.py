"""Load a released checkpoint of any family, or its text side as a sentence encoder."""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from clep.config.check import did_you_mean
from clep.errors import InputError
from clep.files import read_json
from clep.models.published.checkpoint import read_checkpoint
from clep.models.published.model import PublishedModel
from clep.models.published.tokenizers import find_tokenizer
from clep.text import SentenceEncoder
from clep.weights import published_name, published_weights

# A tensor that the files of each family have and those of the families before it lack.
_NAMES_OF_FAMILIES = {
    "egovlpv2": "text_model.encoder.layer.0.output.dense.weight",
    "egovlp": "video_model.cls_token",
    "egovideo": "visual.clip_projector.cross_attn.q.weight",
    "avion": "visual.image_projection",
    "pe": "visual.attn_pool.probe",
    "siglip2": "visual.trunk.attn_pool.latent",
    "lavila": "visual.temporal_embed",
}
KINDS = ("lavila", "avion", "egovlp", "egovlpv2", "egovideo", "pe", "siglip2", "clip")


def load_published(
    kind: str,
    weights: str | Path,
    sizes: Mapping[str, Any] | str | Path | None = None,
    frames: int | None = None,
    dtype: torch.dtype = torch.float32,
    tokenizer: str | None = None,
) -> PublishedModel:
    """Load a released checkpoint as data; no code in it is run.

    Args:
        kind: one of `KINDS`.
        weights: `.pt`, `.pth`, `.bin` or `.safetensors`, or a folder that holds one; for "clip" and "siglip2" also a
            folder of transformers or a hub name. Weights of float32 are mapped from the file: do not overwrite it in
            place while the model is used.
        sizes: what no checkpoint holds, above all the numbers of attention heads (`vision_heads`, `text_heads`), as a
            dict or a JSON file. None: those that lie beside the weights (FILE.json beside FILE.pt), else those of the
            released models. Other sizes in it are compared with the shapes of the weights. For "siglip2" the content
            of `open_clip_config.json`.
        frames: frames of a clip, where it is not the number that the model was trained with; the temporal embedding is
            fitted as the official loader does it, or refused as it refuses.
        dtype: of the weights.
        tokenizer: a tokenizer of transformers, by hub name or folder, for models whose own cannot be had offline.

    Raises:
        InputError: an unknown kind; a file that is missing, cut off, would run code, or belongs to another family or
            size; a number of frames that the official loader refuses.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind!r} is not a published model. {did_you_mean(kind, list(KINDS))}")
    if frames is not None and frames < 1:
        raise InputError(f"frames={frames} must be at least 1")
    if isinstance(sizes, str | Path):
        path, sizes = sizes, read_json(sizes)
        if not isinstance(sizes, dict):
            raise InputError(f"sizes={path} should hold a JSON object, not a {type(sizes).__name__}")
    if kind == "clip" or (kind == "siglip2" and _is_transformers(weights)):
        from clep.models.published.siglip2 import load_transformers

        model: PublishedModel = load_transformers(kind, weights, frames)
    else:
        file = read_checkpoint(weights)
        if file.kind not in (None, kind):
            raise InputError(f"{file.path} was converted from a checkpoint of {file.kind}, not of {kind}")
        converted = kind == "lavila" and "image_projection.0.weight" in file.tensors  # EgoVLP, by LaViLa's script
        family = import_module(f"clep.models.published.{'egovlp' if converted else kind}")
        looks_like = _family_of(file.tensors)  # before building, which renames tensors
        try:
            model = family.build(file, file.sizes if sizes is None else sizes, frames)
        except InputError as error:
            message = str(error) if str(file.path) in str(error) else f"{file.path}: {error}"
            remedy = f". Its tensors are named as those of {looks_like!r}" if looks_like not in (kind, None) else ""
            raise InputError(f"{message.rstrip('.')}{remedy}") from error
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0][:200]
            raise InputError(
                f"{file.path} is not a checkpoint of {kind}: tensors are missing or of another shape or type "
                f"({type(error).__name__}: {reason}); give the released file"
            ) from error
    model.name = published_name(kind, weights)
    model.tokenizer = find_tokenizer(model, weights, tokenizer)
    return model.to(dtype)


def load_sentence_encoder(name: str, device: str | list[str] | None = None, batch_size: int = 256) -> SentenceEncoder:
    """Load a sentence encoder by the setting `text_encoder`.

    Args:
        name: `KIND:WEIGHTS` for the text side of a published model, e.g. "lavila:clip_openai_timesformer_base.pt";
            WEIGHTS may be a URL, see `clep.weights`. Else a model of sentence-transformers, see `SentenceEncoder`.
        device: see `SentenceEncoder`.
        batch_size: sentences in one pass through the model.

    Raises:
        InputError: the model, its tokenizer or the device is missing.
    """
    published = published_weights(name)
    if published is None:
        return SentenceEncoder(name, device, batch_size)
    from sentence_transformers import SentenceTransformer

    from clep.models.published.sentences import PublishedSentences

    kind, weights = published
    model = load_published(kind, weights)
    model.tokenize(["a"])  # a tokenizer that is missing is an error here, not after hours
    module = SentenceTransformer(modules=[PublishedSentences(model)], device="cpu")
    return SentenceEncoder(name, device, batch_size, module)


def published_scale(name: str) -> tuple[float | None, float | None]:
    """Return the multiplier and the bias of the logits that the file of `KIND:WEIGHTS` holds; None where it has none.

    Raises:
        InputError: the name is of another form, or the file cannot be read.
    """
    published = published_weights(name)
    if published is None:
        raise InputError(f"{name!r} is not KIND:WEIGHTS, e.g. lavila:clip_openai_timesformer_base.pt")
    kind, weights = published
    if kind == "clip" or (kind == "siglip2" and _is_transformers(weights)):
        model: Any = load_published(kind, weights)
        return model.logit_scale, model.logit_bias
    tensors = read_checkpoint(weights).tensors
    if kind not in ("lavila", "avion", "pe", "siglip2") or "image_projection.0.weight" in tensors:
        return None, None  # EgoVLP, also as LaViLa's script converts it, and EgoVideo compare by plain cosine
    if "logit_scale" not in tensors:
        raise InputError(f"{weights} is not a checkpoint of {kind}: it lacks logit_scale")
    bias = tensors.get("logit_bias")
    if tensors["logit_scale"].numel() != 1 or (bias is not None and bias.numel() != 1):
        raise InputError(f"{weights} is not a checkpoint of {kind}: its logit_scale or logit_bias is not one number")
    return float(tensors["logit_scale"].double().exp()), None if bias is None else float(bias)


def same_joint_space(bank_encoder: str, text_encoder: str) -> bool:
    """Whether rows and texts are of one published model by the names in their banks; an unknown name ("") passes.

    The number of frames that a bank's name ends with does not matter.
    """
    return not bank_encoder or not text_encoder or re.sub(r"-\d+f$", "", bank_encoder) == text_encoder


def _family_of(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the kind whose files have these names of tensors; None for unknown ones."""
    return next((kind for kind, name in _NAMES_OF_FAMILIES.items() if name in tensors), None)


def _is_transformers(weights: str | Path) -> bool:
    path = Path(weights).expanduser()
    return (path / "config.json").is_file() if path.is_dir() else not path.exists()
