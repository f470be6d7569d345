"""A trained model for use: texts and moments in, embeddings and search results out."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from clep.bank import FeatureBank
from clep.data import Window
from clep.errors import InputError
from clep.models import DualEncoder, load_weights
from clep.text import SentenceEncoder, substitute_tags
from clep.training.run_folder import read_checkpoint


class Hit(NamedTuple):
    """A moment that a search found: its video, its seconds, and the cosine similarity to the query."""

    video: str
    start_s: float
    end_s: float
    score: float


class PretrainedModel:
    """A `DualEncoder` with the sentence encoder and the window that it was trained with.

    Args:
        encoder: the model.
        device: where it computes; None for a GPU if there is one.
    """

    def __init__(self, encoder: DualEncoder, device: str | torch.device | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.encoder = encoder.to(self.device).eval()
        self.window = Window(**{**encoder.metadata.get("window", {}), "sample": "uniform"})
        self._sentences: SentenceEncoder | None = None
        self._indexed: tuple[Any, list[tuple[int, float, float]], Tensor] | None = None

    @torch.no_grad()
    def embed_text(self, texts: list[str], batch_size: int = 4096) -> Float[Tensor, "texts embed"]:
        """Return the embeddings of sentences, float32 on the CPU.

        Tags of narrations are written the way the training texts had them.

        Raises:
            InputError: the sentence encoder cannot be loaded, or the model does not say which it needs.
        """
        if isinstance(texts, str):
            raise TypeError("give a list of sentences, not one string")
        if self._sentences is None:
            name = self.encoder.metadata.get("sentence_encoder")
            if not name:
                raise InputError("the model does not say which sentence encoder it was trained with")
            self._sentences = SentenceEncoder(name)
        style = self.encoder.metadata.get("tag_style", "clean")
        rows = torch.from_numpy(self._sentences.encode([substitute_tags(text, style) for text in texts]))
        pieces = [self.encoder.encode_text({"text": piece.to(self.device)}).cpu() for piece in rows.split(batch_size)]
        return torch.cat(pieces) if pieces else torch.zeros(0, 0)

    @torch.no_grad()
    def embed_video(
        self,
        bank: FeatureBank,
        video: list[str] | str,
        start_s: list[float] | Float[Tensor, " moments"] | float,
        end_s: list[float] | Float[Tensor, " moments"] | float,
        batch_size: int = 4096,
    ) -> Float[Tensor, "moments embed"]:
        """Return the embeddings of moments, float32 on the CPU.

        Args:
            bank: made by the encoder that the model was trained on.
            video: id of each moment's video, or one id for all.
            start_s, end_s: seconds of each span.
            batch_size: moments encoded at once.

        Raises:
            InputError: the bank is another encoder's, lacks a video, or a span is not one.
        """
        self.encoder.check_bank(bank.encoder)
        starts = torch.as_tensor(start_s, dtype=torch.float64).reshape(-1)
        ends = torch.as_tensor(end_s, dtype=torch.float64).reshape(-1)
        ids = [video] * len(starts) if isinstance(video, str) else list(video)
        if not len(ids) == len(starts) == len(ends):
            raise InputError(
                f"each moment needs a video, a start and an end, but there are {len(ids)} videos, {len(starts)} starts "
                f"and {len(ends)} ends"
            )
        index = bank.index(ids)
        first, last = bank.window(index, starts.to(index.device), ends.to(index.device), align=self.window.align)
        pieces = []
        for begin in range(0, len(first), batch_size):
            batch = self.window.gather(bank, first[begin : begin + batch_size], last[begin : begin + batch_size])
            pieces.append(self.encoder.encode_video({k: v.to(self.device) for k, v in batch.items()}).cpu())
        return torch.cat(pieces) if pieces else torch.zeros(0, 0)

    def search(
        self, bank: FeatureBank, text: str, top: int = 10, window_s: float = 4.0, stride_s: float = 1.0
    ) -> list[Hit]:
        """Return the moments of a bank that fit a sentence best, best first, none of them overlapping another.

        The embeddings of the bank are kept for the next search with the same windows.

        Args:
            bank: with a clock.
            text: what to look for.
            top: how many moments at the most.
            window_s: length of the moments in seconds.
            stride_s: seconds from the start of one to the next.

        Raises:
            InputError: the bank is another encoder's or has no clock, or a number is not positive.
        """
        if window_s <= 0 or stride_s <= 0 or top < 1:
            raise InputError(f"search needs positive numbers, not top={top}, window_s={window_s}, stride_s={stride_s}")
        spans, embedded = self._index(bank, window_s, stride_s)
        query = torch.nn.functional.normalize(self.embed_text([text]), dim=-1)[0]
        scores = torch.nn.functional.normalize(embedded, dim=-1) @ query
        hits: list[Hit] = []
        for place in scores.argsort(descending=True).tolist():
            video, start_s, end_s = spans[place]
            uid = bank.videos[video]
            if all(hit.video != uid or end_s <= hit.start_s or hit.end_s <= start_s for hit in hits):
                hits.append(Hit(uid, start_s, end_s, float(scores[place])))
            if len(hits) == top:
                break
        return hits

    def _index(
        self, bank: FeatureBank, window_s: float, stride_s: float
    ) -> tuple[list[tuple[int, float, float]], Tensor]:
        key = (str(bank.path), window_s, stride_s)
        if self._indexed is None or self._indexed[0] != key:
            spans = [
                (video, float(start), min(float(start) + window_s, end_s))
                for video, end_s in enumerate(bank.end_s.tolist())
                for start in torch.arange(0, max(end_s - window_s / 2, stride_s / 2), stride_s, dtype=torch.float64)
            ]
            ids = [bank.videos[video] for video, _, _ in spans]
            embedded = self.embed_video(bank, ids, [start for _, start, _ in spans], [end for _, _, end in spans])
            self._indexed = key, spans, embedded
        return self._indexed[1], self._indexed[2]


def load(run_or_folder: str | Path, device: str | torch.device | None = None) -> PretrainedModel:
    """Load a trained model from a run's folder, a folder that `save_pretrained` wrote, or a checkpoint.

    Raises:
        InputError: none of these, or its files are damaged or ask for classes outside the allow-list.
    """
    return PretrainedModel(load_encoder(run_or_folder), device)


def load_encoder(path: str | Path) -> DualEncoder:
    """Load the `DualEncoder` alone, on the CPU; see `load`."""
    path = Path(path)
    if path.is_file():
        checkpoint = read_checkpoint(path)
        described, state = checkpoint.get("clep"), checkpoint.get("state_dict")
        config = described.get("model") if isinstance(described, dict) else None
        if not isinstance(described, dict) or not isinstance(config, dict) or not isinstance(state, dict):
            raise InputError(f"{path} is not a checkpoint of clep: it does not describe its model")
        try:
            model = DualEncoder.from_config({**config, "metadata": described.get("metadata") or {}})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        prefix = "model."
        weights = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        load_weights(model, weights, str(path))
        return model.eval()
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return DualEncoder.from_pretrained(folder)
    left = ", ".join(map(str, sorted(path.glob("checkpoints/*.ckpt"))))
    raise InputError(
        f"{path} holds no trained model: neither config.json nor model/config.json is there, and it is no .ckpt"
        + (f". Its run did not end, but left {left}" if left else "")
    )
