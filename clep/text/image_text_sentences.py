"""The text side of CLIP and SigLIP as a sentence model."""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import InputModule
from torch import Tensor, nn
from torch.nn.functional import normalize

MODEL_TYPES = ("clip", "siglip", "siglip2")


def image_text_type(location: str) -> str | None:
    """Return the type of an image–text model, one of `MODEL_TYPES`; None if it is another model or does not exist.

    Args:
        location: a folder or a hub name. For a folder that sentence-transformers saved the answer is None.
    """
    folder = Path(location)
    if folder.is_dir():
        config = None if (folder / "modules.json").is_file() else _read(folder / "config.json")
    elif "/" not in location or location.startswith("sentence-transformers/"):
        config = None
    else:
        config = _hub_config(location)
    found = config.get("model_type") if isinstance(config, dict) else None
    return found if found in MODEL_TYPES else None


def load_image_text(location: str, model_type: str, device: str | None = None) -> SentenceTransformer:
    """Load the text side as a sentence-transformers model, in float32, without running code that comes with it.

    Raises:
        ValueError: weights are missing.
        OSError: a file is missing or damaged.
    """
    from transformers import AutoTokenizer, CLIPModel, Siglip2Model, SiglipModel

    model_class: Any = {"clip": CLIPModel, "siglip": SiglipModel, "siglip2": Siglip2Model}[model_type]
    tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
    model, info = model_class.from_pretrained(location, dtype=torch.float32, output_loading_info=True)
    if info["missing_keys"]:
        raise ValueError(f"its weights lack {', '.join(sorted(info['missing_keys'])[:3])}.")
    return SentenceTransformer(modules=[ImageTextSentences(model, tokenizer)], device=device)


class ImageTextSentences(InputModule):
    """Text embeddings of unit length, in the joint space of an image–text model.

    A clip's row of `clep.video.encoders.ImageText` is the mean of its frames' unit embeddings; its dot product with one
    of these embeddings is the mean cosine of frames and text.

    Args:
        model: a CLIPModel, SiglipModel or Siglip2Model; only its text side is kept.
        tokenizer: of the same model.
    """

    def __init__(self, model: Any, tokenizer: Any):
        super().__init__()
        self.tokenizer = tokenizer
        self.text: Any = model.text_model
        self.projection: Any = getattr(model, "text_projection", None) or nn.Identity()
        # SigLIP was trained without a mask, on texts padded to the full length; it reads the last token.
        self.is_clip = model.config.model_type == "clip"
        self.max_seq_length = int(model.config.text_config.max_position_embeddings)
        self.requires_grad_(False).eval()

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Tokenize; texts longer than the model takes (CLIP 77, SigLIP 64 tokens) are cut."""
        texts = [f"{prompt or ''}{text}" for text in inputs]
        tokenizer: Any = self.tokenizer
        tokens = tokenizer(
            texts,
            padding=True if self.is_clip else "max_length",
            truncation=True,
            max_length=self.max_seq_length,
            return_tensors="pt",
        )
        names = ("input_ids", "attention_mask") if self.is_clip else ("input_ids",)
        return {name: tokens[name] for name in names}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`, [texts, dim], to the features."""
        return features | {"sentence_embedding": self._embed(features["input_ids"], features.get("attention_mask"))}

    def get_embedding_dimension(self) -> int:
        """Return the dimension of an embedding."""
        head = self.projection if isinstance(self.projection, nn.Linear) else self.text.head
        return int(head.out_features)

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Refuse to save the text side alone."""
        raise NotImplementedError("the text side alone is not saved; keep the model's own folder")

    def _embed(
        self, tokens: Int[Tensor, "texts length"], mask: Int[Tensor, "texts length"] | None
    ) -> Float[Tensor, "texts dim"]:
        return normalize(self.projection(self.text(tokens, attention_mask=mask).pooler_output), dim=-1)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # sentence-transformers reports what is wrong with it


def _hub_config(name: str) -> Any:
    from transformers.utils import cached_file

    try:
        for file in ("modules.json", "config.json"):
            try:
                found = cached_file(name, file)
            except OSError:
                continue
            return _read(Path(found)) if found else None
    except ValueError:
        pass  # not a name that the hub accepts
    return None
