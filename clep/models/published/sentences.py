"""The text side of a published model as a module of sentence-transformers."""

from typing import Any

from jaxtyping import Bool, Int64
from sentence_transformers.sentence_transformer.modules import InputModule
from torch import Tensor

from clep.models.published.model import PublishedModel


class PublishedSentences(InputModule):
    """Sentences to embeddings in the joint space of a published model, projected and not of unit length.

    Args:
        model: its text side is used; its video side is dropped.
    """

    def __init__(self, model: PublishedModel) -> None:
        super().__init__()
        for side in ("visual", "video_model", "vid_proj", "image_projection", "proj"):
            if hasattr(model, side):
                setattr(model, side, None)
        if hasattr(model, "model"):
            model.model.vision_model = None  # type: ignore[union-attr]
        self.model = model
        self.tokenizer: Any = None  # the model has its own

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Tokenize as the official code does."""
        tokens = self.model.tokenize([f"{prompt or ''}{text}" for text in inputs])
        return {"input_ids": tokens.ids, "attention_mask": tokens.mask}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`, `[texts, dim]`, to the features."""
        return features | {"sentence_embedding": self._embed(features["input_ids"], features["attention_mask"])}

    def get_embedding_dimension(self) -> int:
        """Return the dimension of the joint space."""
        return self.model.dim

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Refuse to save the text side alone."""
        raise NotImplementedError("the text side alone is not saved; keep the file of the model")

    def _embed(self, token_ids: Int64[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]) -> Tensor:
        return self.model.encode_text(token_ids, mask, normalize=False)
