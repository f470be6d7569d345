"""A trained model for use: texts and moments in, embeddings and search results out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clep.bank import FeatureBank
from clep.config.own_parts import explain_refusal
from clep.config.targets import allowed
from clep.data import LongTerm, Window
from clep.errors import InputError
from clep.models import DualEncoder, load_model
from clep.models.published import load_sentence_encoder
from clep.text import SentenceEncoder, substitute_tags

Seconds = Sequence[float | int] | np.ndarray | Tensor | float | int


class Hit(NamedTuple):
    """A moment that a search found: its video, its seconds, and the cosine similarity to the query."""

    video: str
    start_s: float
    end_s: float
    score: float


class PretrainedModel:
    """A `DualEncoder` with the sentence encoder, the window and the context that it was trained with.

    Args:
        encoder: the model.
        device: where it computes; None for a GPU if there is one.
    """

    def __init__(self, encoder: DualEncoder, device: str | torch.device | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.encoder = encoder.to(self.device).eval()
        self.window, self.context = Window.of_model(encoder.metadata), LongTerm.of_model(encoder.metadata)
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
        style = self.encoder.metadata.get("tag_style", "clean")
        sentences = [substitute_tags(text, style) for text in texts]
        if self.encoder.reads_tokens:
            return self.encoder.encode_sentences(sentences, min(batch_size, 512)).cpu()
        if self._sentences is None:
            name = self.encoder.metadata.get("sentence_encoder")
            if not name:
                raise InputError("the model does not say which sentence encoder it was trained with")
            self._sentences = load_sentence_encoder(name, str(self.device))
        rows = torch.from_numpy(self._sentences.encode(sentences))
        pieces = [self.encoder.encode_text({"text": piece.to(self.device)}).cpu() for piece in rows.split(batch_size)]
        return torch.cat(pieces) if pieces else torch.zeros(0, 0)

    @torch.no_grad()
    def embed_video(
        self,
        bank: FeatureBank,
        video: list[str] | str,
        start_s: Seconds,
        end_s: Seconds,
        batch_size: int = 4096,
    ) -> Float[Tensor, "moments embed"]:
        """Return the embeddings of moments, float32 on the CPU.

        A model with a long-term context reads the rows around the moments' middles too: fastest where moments whose
        minutes overlap follow each other.

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
        middle_s = ((starts + ends) / 2).to(index.device)
        shared = getattr(self.encoder.video, "shares_context", True)
        if self.context is not None:
            batch_size = self.context.shared_at_once(batch_size) if shared else self.context.at_once(batch_size)
        pieces = []
        for begin in range(0, len(first), batch_size):
            some = slice(begin, begin + batch_size)
            batch = self.window.gather(bank, first[some], last[some])
            if self.context is not None:
                gather = self.context.gather_shared if shared else self.context.gather
                batch |= gather(bank, index[some], middle_s[some])
            pieces.append(self.encoder.encode_video({k: v.to(self.device) for k, v in batch.items()}).cpu())
        return torch.cat(pieces) if pieces else torch.zeros(0, 0)

    def similarity(
        self, bank: FeatureBank, text: str, video: str, window_s: float | int = 4.0, stride_s: float | int = 1.0
    ) -> tuple[Float64[Tensor, " moments"], Float[Tensor, " moments"]]:
        """Return how well a sentence fits a video over time: seconds of the moments' middles, and cosine similarities.

        Raises:
            InputError: the bank is another encoder's, lacks the video or has no clock, or a length is not positive.
        """
        number = int(bank.index([video])[0])
        if number < 0:
            raise InputError(
                f"{bank.path} has no rows of video {video!r}; bank.videos lists the {len(bank)} that it has"
            )
        spans = _spans(number, float(bank.end_s[number]), window_s, stride_s)
        starts, ends = ([span[side] for span in spans] for side in (1, 2))
        scores = self._cosine(self.embed_video(bank, video, starts, ends), text)
        return (torch.tensor(starts, dtype=torch.float64) + torch.tensor(ends, dtype=torch.float64)) / 2, scores

    def search(
        self,
        bank: FeatureBank,
        text: str,
        top: int = 10,
        window_s: float | int = 4.0,
        stride_s: float | int = 1.0,
        videos: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Return the moments of a bank that fit a sentence best, best first, none of them overlapping another.

        The embeddings of the bank are kept for the next search with the same windows.

        Args:
            bank: with a clock.
            text: what to look for.
            top: how many moments at the most.
            window_s: length of the moments in seconds.
            stride_s: seconds from the start of one to the next.
            videos: ids of those to search; None for all.

        Raises:
            InputError: the bank is another encoder's or has no clock, or a number is not positive.
        """
        if top < 1:
            raise InputError(f"search needs a positive number of moments, not top={top}")
        wanted = None if videos is None else set(videos)
        spans, embedded = self._index(bank, window_s, stride_s)
        scores = self._cosine(embedded, text)
        hits: list[Hit] = []
        for index in scores.argsort(descending=True).tolist():
            video, start_s, end_s = spans[index]
            uid = bank.videos[video]
            if wanted is not None and uid not in wanted:
                continue
            if all(hit.video != uid or end_s <= hit.start_s or hit.end_s <= start_s for hit in hits):
                hits.append(Hit(uid, start_s, end_s, float(scores[index])))
            if len(hits) == top:
                break
        return hits

    def _cosine(self, embedded: Float[Tensor, "moments embed"], text: str) -> Float[Tensor, " moments"]:
        query = torch.nn.functional.normalize(self.embed_text([text]), dim=-1)[0]
        return torch.nn.functional.normalize(embedded, dim=-1) @ query

    def _index(
        self, bank: FeatureBank, window_s: float | int, stride_s: float | int
    ) -> tuple[list[tuple[int, float, float]], Tensor]:
        key = (str(bank.path), window_s, stride_s)
        if self._indexed is None or self._indexed[0] != key:
            ends = enumerate(bank.end_s.tolist())
            spans = [span for video, end_s in ends for span in _spans(video, end_s, window_s, stride_s)]
            ids = [bank.videos[video] for video, _, _ in spans]
            embedded = self.embed_video(bank, ids, [start for _, start, _ in spans], [end for _, _, end in spans])
            self._indexed = key, spans, embedded
        return self._indexed[1], self._indexed[2]


def _spans(video: int, end_s: float, window_s: float | int, stride_s: float | int) -> list[tuple[int, float, float]]:
    """Cut a video into moments of `window_s` seconds, one every `stride_s`; the last may be down to half as long."""
    if window_s <= 0 or stride_s <= 0:
        raise InputError(f"a search needs positive seconds, not window_s={window_s}, stride_s={stride_s}")
    starts = np.arange(0, max(end_s - window_s / 2, stride_s / 2), stride_s)
    return [(video, float(start), min(float(start) + window_s, end_s)) for start in starts]


def load(
    run_or_folder: str | Path, device: str | torch.device | None = None, allow: str | Sequence[str] = ()
) -> PretrainedModel:
    """Load a trained model from a run's folder, a folder that `save_pretrained` wrote, or a checkpoint.

    No code that comes with the files is run: they may name registered classes of clep and modules of torch.nn.

    Args:
        run_or_folder: where the model lies.
        device: where it computes; None for a GPU if there is one.
        allow: modules or classes of your own that the files may name too, e.g. `["mine."]`.

    Raises:
        InputError: there is no model, or its files are damaged or name classes that are neither registered nor allowed.
    """
    with explain_refusal(Path(run_or_folder), allowed(allow)):
        encoder = load_encoder(run_or_folder, allow)
    try:
        return PretrainedModel(encoder, device)
    except InputError as error:
        raise InputError(f"{run_or_folder}: {error}") from error


def load_encoder(path: str | Path, allow: str | Sequence[str] = ()) -> DualEncoder:
    """Load the `DualEncoder` alone, on the CPU; see `load`.

    Raises:
        InputError: as `load`, or the model is another one.
    """
    model = load_model(path, allow)
    if not isinstance(model, DualEncoder):
        raise InputError(
            f"{path} holds a {type(model).__name__}, which embeds no texts; it is measured by `python -m clep.evaluate "
            f"ckpt={path}` and loaded by clep.models.load_model"
        )
    return model
