"""A trained model for use: texts and moments in, embeddings and search results out."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from clep.bank import FeatureBank
from clep.checksums import digest
from clep.config.own_parts import explain_refusal
from clep.config.targets import allowed
from clep.data import LongTerm, Window
from clep.errors import InputError
from clep.files import published_weights, sentence_model_name
from clep.index import PROBE_SENTENCES, IndexSettings, MomentGrid, MomentIndex
from clep.index.moment_index import APPROXIMATE_ABOVE
from clep.models import DualEncoder, JointSpace, load_model
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
        self._indexed: tuple[Any, MomentIndex] | None = None

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
        return self._embed_moments(bank, bank.index(ids), starts, ends, batch_size)

    @torch.no_grad()
    def _embed_moments(
        self,
        bank: FeatureBank,
        index: Int64[Tensor, " moments"],
        starts: Float64[Tensor, " moments"],
        ends: Float64[Tensor, " moments"],
        batch_size: int = 4096,
    ) -> Float[Tensor, "moments embed"]:
        """Return the embeddings of moments of videos given by their indices in the bank; see `embed_video`."""
        index = index.to(bank.device)
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
        grid = MomentGrid(bank.end_s[number : number + 1].cpu().numpy(), float(window_s), float(stride_s))
        _, starts, ends = grid.spans(np.arange(len(grid)))
        embedded = self.embed_video(bank, video, starts, ends)
        return torch.from_numpy((starts + ends) / 2), normalize(embedded, dim=-1) @ self.query([text])

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

        The first search of a bank embeds all its moments into an index beside it, see `index`. Scores are cosine
        similarities of embeddings in half precision, exact to 0.0005.

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
        index = self.index(bank, window_s, stride_s)
        chosen = None if videos is None else [number for number in bank.index(videos).tolist() if number >= 0]
        moments, scores = index.search(self.query([text]), top, chosen)
        columns = (column.tolist() for column in (*index.grid.spans(moments), scores))
        return [
            Hit(bank.videos[video], start_s, end_s, score)
            for video, start_s, end_s, score in zip(*columns, strict=True)
        ]

    def query(self, texts: list[str]) -> Float[Tensor, " embed"]:
        """Return the mean of the unit-length embeddings of sentences: its dot products are mean cosine similarities."""
        return normalize(self.embed_text(texts), dim=-1).mean(0)

    def index(
        self,
        bank: FeatureBank,
        window_s: float | int = 4.0,
        stride_s: float | int = 1.0,
        approximate_above: int | None = APPROXIMATE_ABOVE,
    ) -> MomentIndex:
        """Open the index of a bank's moments for this model; build it where it is missing or outdated.

        It is a file beside the bank (in the user's cache where that folder cannot be written to), and stays open for
        the next search with the same windows.

        Args:
            bank: with a clock.
            window_s, stride_s: see `search`.
            approximate_above: search more moments than this by faiss; None: never.

        Raises:
            InputError: the bank is another encoder's or has no clock, or a length is not positive.
        """
        self.encoder.check_bank(bank.encoder)
        key = (str(bank.path), bank.digest, float(window_s), float(stride_s), approximate_above)
        if self._indexed is None or self._indexed[0] != key:
            settings = IndexSettings(self.digest, float(window_s), float(stride_s))
            index = MomentIndex.open(
                bank,
                settings,
                functools.partial(self._embed_moments, bank),
                lambda: self.embed_text(list(PROBE_SENTENCES)),
                approximate_above,
            )
            self._indexed = key, index
        return self._indexed[1]

    @functools.cached_property
    def digest(self) -> str:
        """Digest of the weights, the architecture and the metadata."""
        state = self.encoder.state_dict()
        described = json.dumps([self.encoder.config, self.encoder.metadata], sort_keys=True, default=str)
        return digest(described, *(part for name in sorted(state) for part in (name, state[name])))


def load(
    run_or_folder: str | Path, device: str | torch.device | None = None, allow: str | Sequence[str] = ()
) -> PretrainedModel:
    """Load a trained model from a run's folder, a folder that `save_pretrained` wrote, or a checkpoint.

    `KIND:WEIGHTS` loads the text side of a published model, for banks whose rows lie in its joint space. No code that
    comes with the files is run: they may name registered classes of clep and modules of torch.nn.

    Args:
        run_or_folder: where the model lies.
        device: where it computes; None for a GPU if there is one.
        allow: modules or classes of your own that the files may name too, e.g. `["mine."]`.

    Raises:
        InputError: there is no model, or its files are damaged or name classes that are neither registered nor allowed.
    """
    name = str(run_or_folder)
    if published_weights(name) is not None and not Path(name).exists():
        texts = {"sentence_encoder": name, "text_bank_encoder": sentence_model_name(name), "tag_style": "raw"}
        return PretrainedModel(JointSpace(name, metadata=texts), device)
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
