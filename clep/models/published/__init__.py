"""Published video–language models, one family a file: load a released checkpoint, embed clips and sentences.

```python
model = load_published("lavila", "clip_openai_timesformer_base.pt")
video = model.encode_video(model.video_transform(frames)[None])  # frames: uint8 [4, 3, height, width]; [1, 256]
text = model.encode_text(*vars(model.tokenize(["#C C opens the fridge"])).values())  # [1, 256]
```

A row of `encode_video` is a row of a feature bank in the joint space, and `encode_text` gives its text bank.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from clep.config.check import did_you_mean
from clep.errors import InputError
from clep.models.published.checkpoint import find_file, read_state
from clep.models.published.model import PublishedModel, Tokens
from clep.models.published.pixels import PublishedClip

KINDS = ("lavila", "avion", "egovlp", "egovlpv2", "egovideo", "pe", "siglip2", "clip")

__all__ = ["KINDS", "PublishedClip", "PublishedModel", "Tokens", "load_published"]


def load_published(
    kind: str,
    weights: str | Path,
    sizes: Mapping[str, Any] | None = None,
    frames: int | None = None,
    dtype: torch.dtype = torch.float32,
    tokenizer: str | None = None,
) -> PublishedModel:
    """Load a released checkpoint as data; no code in it is run.

    Args:
        kind: one of `KINDS`.
        weights: `.pt`, `.pth`, `.bin` or `.safetensors`, or a folder that holds one; for "clip" and "siglip2" also a
            folder of transformers or a hub name.
        sizes: what no checkpoint holds, above all the numbers of attention heads (`vision_heads`, `text_heads`); those
            of the released models by default. Other sizes in it are compared with the shapes of the weights. For
            "siglip2" the content of `open_clip_config.json`.
        frames: frames of a clip, where it is not the number that the model was trained with; the temporal embedding is
            fitted as the official loader does it, or refused as it refuses.
        dtype: of the weights.
        tokenizer: a tokenizer of transformers, by hub name or folder, for models whose own cannot be had offline.

    Raises:
        InputError: an unknown kind; a file that is missing, cut off, asks for code, or belongs to another family or
            size; a number of frames that the official loader refuses.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind!r} is no published model. {did_you_mean(kind, list(KINDS))}")
    if frames is not None and frames < 1:
        raise InputError(f"frames={frames} must be at least 1")
    if kind == "clip" or (kind == "siglip2" and _is_transformers(weights)):
        from clep.models.published.siglip2 import load_transformers

        model: PublishedModel = load_transformers(kind, weights, frames)
    else:
        state, args = read_state(weights)
        converted = (
            kind == "lavila" and "image_projection.0.weight" in state
        )  # an EgoVLP that LaViLa's script converted
        family = import_module(f"{__name__}.{'egovlp' if converted else kind}")
        build = family.build_siglip2 if kind == "siglip2" else family.build
        model = build(state, args, sizes, frames, find_file(weights))
    from clep.models.published.tokenizers import find_tokenizer

    model.tokenizer = find_tokenizer(model, weights, tokenizer)
    return model.to(dtype)


def _is_transformers(weights: str | Path) -> bool:
    path = Path(weights).expanduser()
    return (path / "config.json").is_file() if path.is_dir() else not path.exists()
