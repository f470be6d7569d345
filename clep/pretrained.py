"""A trained model for use: texts and moments in, embeddings and search results out."""

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from clep.answers import Classification, Hit, Moment
from clep.bank import FeatureBank
from clep.checksums import digest
from clep.config.check import did_you_mean
from clep.config.own_parts import explain_refusal
from clep.config.targets import allowed
from clep.data import LongTerm, Window
from clep.data.feature_check import check_bank, takes_bank
from clep.datasets.narrations_near import NarrationsNear
from clep.device import find_device
from clep.errors import InputError
from clep.hub import local_model
from clep.index import RECALL_SENTENCES, IndexSettings, MomentGrid, MomentIndex
from clep.index.moment_index import APPROXIMATE_ABOVE
from clep.models import DualEncoder, JointSpace, load_model
from clep.models.published import load_sentence_encoder
from clep.progress import progress_bar
from clep.remote import is_remote
from clep.text import SentenceEncoder, substitute_tags
from clep.text.prompts import average_prompts, class_prompts
from clep.weights import published_weights, sentence_model_name

Seconds = Sequence[float | int] | np.ndarray | Tensor | float | int


Span = tuple[str, float | int, float | int]  # video, start, end
Query = str | Sequence[str] | Span | int


class PretrainedModel:
    """A `DualEncoder` with the sentence encoder, the window and the context that it was trained with.

    Args:
        encoder: the model.
        device: where it computes; None for a GPU if there is one.

    Examples:
        >>> import clep
        >>> from clep.bank import FeatureBank
        >>> model = clep.load("model", device="cpu")  # or the folder of a run
        >>> bank = FeatureBank.open("features.h5")
        >>> hits = model.search(bank, "opens the fridge", top=3)
        >>> len(hits), hits[0].end_s - hits[0].start_s
        (3, 4.0)
        >>> video = model.embed_video(bank, hits[0].video, hits[0].start_s, hits[0].end_s)
        >>> abs(float(model.embed_text(["opens the fridge"]) @ video.T) - hits[0].score) < 1e-3
        True
    """

    def __init__(self, encoder: DualEncoder, device: str | torch.device | None = None) -> None:
        self.device = find_device(device)
        self.encoder = encoder.to(self.device).eval()
        self.window, self.context = Window.of_model(encoder.metadata), LongTerm.of_model(encoder.metadata)
        self._sentences: SentenceEncoder | None = None
        self._indexed: tuple[Any, MomentIndex] | None = None

    @torch.no_grad()
    def embed_text(self, texts: list[str], batch_size: int = 4096) -> Float[Tensor, "texts embed"]:
        """Return the embeddings of sentences, float32 on the CPU.

        Narration tags are written in the style of the training texts.

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

    @takes_bank("model.embed_video(bank, video, start_s, end_s); sentences are embedded by model.embed_text([...])")
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

        A model with a long-term context reads the rows around the moments' middles too. This is fastest if moments
        with overlapping contexts are next to each other in the list.

        Args:
            bank: made by the encoder that the model was trained on.
            video: id of each moment's video, or one id for all.
            start_s, end_s: seconds of each span.
            batch_size: moments encoded at once.

        Raises:
            InputError: the bank is another encoder's, lacks a video, or a span is not one.
        """
        check_bank(self.encoder, bank)
        starts = torch.as_tensor(start_s, dtype=torch.float64).reshape(-1)
        ends = torch.as_tensor(end_s, dtype=torch.float64).reshape(-1)
        ids = [video] * len(starts) if isinstance(video, str) else list(video)
        if not len(ids) == len(starts) == len(ends):
            raise InputError(
                f"each moment needs a video, a start and an end, but there are {len(ids)} videos, {len(starts)} starts "
                f"and {len(ends)} ends"
            )
        return self._embed_moments(bank, self._indices(bank, ids), starts, ends, batch_size)

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
        first, last = bank.window(index, starts, ends, align=self.window.align)
        middle_s = (starts + ends) / 2
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

    @takes_bank('model.similarity(bank, "opens the fridge", video)')
    def similarity(
        self, bank: FeatureBank, text: str, video: str, window_s: float | int = 4.0, stride_s: float | int = 1.0
    ) -> tuple[Float64[Tensor, " moments"], Float[Tensor, " moments"]]:
        """Return how well a sentence fits a video over time: seconds of the moments' middles, and cosine similarities.

        Raises:
            InputError: the bank is another encoder's, lacks the video or has no clock, or a length is not positive.
        """
        number = int(self._indices(bank, [video])[0])
        grid = MomentGrid(bank.end_s[number : number + 1].cpu().numpy(), float(window_s), float(stride_s))
        _, starts, ends = grid.spans(np.arange(len(grid)))
        embedded = self.embed_video(bank, video, starts, ends)
        return torch.from_numpy((starts + ends) / 2), normalize(embedded, dim=-1) @ self.query([text])

    @takes_bank('model.search(bank, "opens the fridge")')
    def search(
        self,
        bank: FeatureBank,
        query: Query,
        top: int = 10,
        window_s: float | int = 4.0,
        stride_s: float | int = 1.0,
        videos: Sequence[str] | None = None,
        narrations: str | Path | NarrationsNear | None = None,
    ) -> list[Hit]:
        """Return the moments of a bank that fit a query best, best first, none of them overlapping another.

        The first search of a bank embeds all its moments into an index beside it, see `index`. Scores are cosine
        similarities of embeddings in half precision, exact to 0.0005.

        Args:
            bank: with a clock.
            query: a sentence; several, whose similarities are averaged; a moment (video, start, end), or the index of a
                row of the bank, for others like it.
            top: how many moments at the most.
            window_s: length of the moments in seconds.
            stride_s: seconds from the start of one to the next.
            videos: ids of those to search; None for all.
            narrations: `narrations.arrow` or a table with `video`, `text` and times, whose texts hits then hold.

        Raises:
            InputError: the bank is another encoder's, has no clock or lacks the moment of the query, the query is
                empty, or a number is not positive.
        """
        if top < 1:
            raise InputError(f"search needs a positive number of moments, not top={top}")
        chosen = None if videos is None else self._indices(bank, videos).tolist()
        moment = self._as_moment(bank, query)
        if moment is None:
            embedded, most = self.query([query] if isinstance(query, str) else cast(list[str], query)), top
        else:
            embedded = normalize(self.embed_video(bank, *moment), dim=-1)[0]
            most = top + math.ceil((moment.end_s - moment.start_s) / float(window_s)) + 1  # hits on the query itself
        index = self.index(bank, window_s, stride_s)
        moments, scores = index.search(embedded, most, chosen)
        columns = (column.tolist() for column in (*index.grid.spans(moments), scores))
        hits = [
            Hit(bank.videos[video], start_s, end_s, score)
            for video, start_s, end_s, score in zip(*columns, strict=True)
        ]
        if moment is not None:
            hits = [hit for hit in hits if not _overlap(hit, moment)][:top]
        if narrations is None:
            return hits
        near = narrations if isinstance(narrations, NarrationsNear) else NarrationsNear(narrations)
        return [hit._replace(text=near.text(hit.video, hit.start_s, hit.end_s)) for hit in hits]

    @takes_bank('model.classify(bank, ["washing a cup", "opening a door"])')
    @torch.no_grad()
    def classify(
        self,
        bank: FeatureBank,
        classes: Sequence[str],
        templates: str | Path | Sequence[str] = "{}",
        videos: Sequence[str] | None = None,
        moments: Sequence[Span] | None = None,
        window_s: float | int | None = None,
        stride_s: float | int | None = None,
        batch_size: int = 4096,
    ) -> Classification:
        """Compare videos, or moments of them, with class names, without training (zero-shot).

        The vector of a class is the mean of the unit embeddings of its prompts. Shows a progress bar on a terminal.

        Args:
            bank: with a clock.
            classes: names, each once.
            templates: prompt, or several, with `{}` for the name; or a text file (.txt) of them.
            videos: ids of those to classify; None for all.
            moments: (video, start, end) to classify instead.
            window_s: classify windows of this length instead of whole videos.
            stride_s: seconds from the start of one window to the next; None for `window_s`.
            batch_size: moments encoded at once.

        Raises:
            InputError: the bank is another encoder's, has no clock or lacks a video; there is no class, or one twice; a
                template is wrong; or a length is not positive.
        """
        if isinstance(classes, str):
            raise TypeError("give a list of class names, not one string")
        names = list(classes)
        if not names or len(set(names)) < len(names):
            raise InputError(f"classes={names[:5]} should hold at least one name, and each name once")
        check_bank(self.encoder, bank)
        prompts, owner = class_prompts([[name] for name in names], templates)
        vectors = average_prompts(self.embed_text(prompts, batch_size), torch.from_numpy(owner), len(names))
        chosen = list(bank.videos) if videos is None else list(videos)
        if moments is not None:
            spans = [Moment(str(video), float(start_s), float(end_s)) for video, start_s, end_s in moments]
        else:
            spans = self._windows(bank, chosen, window_s, stride_s)
        index = self._indices(bank, [span.video for span in spans])
        times = torch.tensor([span[1:] for span in spans], dtype=torch.float64).reshape(-1, 2)
        pieces = [torch.zeros(0, len(names))]
        with progress_bar("classify: moments", len(spans), len(spans) > batch_size) as advance:
            for first in range(0, len(spans), batch_size):
                some = slice(first, first + batch_size)
                embedded = self._embed_moments(bank, index[some], times[some, 0], times[some, 1], batch_size)
                pieces.append(normalize(embedded, dim=-1) @ vectors.T)
                advance(len(embedded))
        return Classification(names, spans, torch.cat(pieces), float(self.encoder.logit_scale))

    def _windows(
        self, bank: FeatureBank, videos: list[str], window_s: float | int | None, stride_s: float | int | None
    ) -> list[Moment]:
        """Return windows of videos, or each video as one moment."""
        index = self._indices(bank, videos)
        end_s = bank.end_s.cpu()[index].numpy()
        if window_s is None:
            return [Moment(video, 0.0, end) for video, end in zip(videos, end_s.tolist(), strict=True)]
        grid = MomentGrid(end_s, float(window_s), float(window_s if stride_s is None else stride_s))
        columns = (column.tolist() for column in grid.spans(np.arange(len(grid))))
        return [Moment(videos[video], start, end) for video, start, end in zip(*columns, strict=True)]

    def _indices(self, bank: FeatureBank, videos: Sequence[str]) -> Int64[Tensor, " videos"]:
        """Return the indices of videos in a bank.

        Raises:
            InputError: the bank lacks one.
        """
        index = bank.index(videos).cpu()
        if (index < 0).any():
            missing = [video for video, one in zip(videos, index.tolist(), strict=True) if one < 0]
            raise InputError(
                f"{bank.path} has no rows of video {missing[0]!r} ({len(missing)} such). "
                f"{did_you_mean(missing[0], bank.videos)}".rstrip()
            )
        return index

    def _as_moment(self, bank: FeatureBank, query: Query) -> Moment | None:
        """Return the moment of a query that is one, or is a row; None for sentences."""
        if isinstance(query, str) or (not query and not isinstance(query, int)):
            if not query:
                raise InputError(f"search for {query!r}: give a sentence, several, a moment or a row")
            return None
        if isinstance(query, int):
            if not 0 <= query < bank.n_rows:
                raise InputError(f"{bank.path} has {bank.n_rows:,} rows, so there is no row {query}")
            number = int(torch.searchsorted(bank.first_row.cpu(), query, right=True)) - 1
            video, row = bank.videos[number], query - int(bank.first_row[number])
            if bank.clock is None:
                raise InputError(f"{bank.path} has no clock, so its rows are not moments")
            seconds = bank.video_seconds(video)
            rate = bank.clock.rows_per_second
            start_s = row / rate if seconds is None and rate is not None else float(cast(Tensor, seconds)[row])
            return Moment(video, start_s, start_s + bank.clock.row_seconds)
        if any(isinstance(part, int | float) for part in query):
            try:
                uid, begins, ends = cast(Span, query)
                moment = Moment(str(uid), float(begins), float(ends))
            except (TypeError, ValueError) as error:
                raise InputError(f"search for {query!r}: a moment is (video, start, end)") from error
            self._indices(bank, [moment.video])
            return moment
        return None

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
        check_bank(self.encoder, bank)
        key = (str(bank.path), bank.digest, float(window_s), float(stride_s), approximate_above)
        if self._indexed is None or self._indexed[0] != key:
            settings = IndexSettings(self.digest, float(window_s), float(stride_s))
            index = MomentIndex.open(
                bank,
                settings,
                functools.partial(self._embed_moments, bank),
                lambda: self.embed_text(list(RECALL_SENTENCES)),
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


def _overlap(one: Hit, other: Moment) -> bool:
    return one.video == other.video and one.start_s < other.end_s and other.start_s < one.end_s


def load(
    run_or_folder: str | Path, device: str | torch.device | None = None, allow: str | Sequence[str] = ()
) -> PretrainedModel:
    """Load a trained model from a run's folder, a folder that `save_pretrained` wrote, a checkpoint, or the hub.

    `KIND:WEIGHTS` loads the text side of a published model, for banks whose rows lie in its joint space. No code that
    comes with the files is run: they may name registered classes of clep and modules of torch.nn.

    Args:
        run_or_folder: where the model lies: a path; `user/name` or `hf://user/name@revision` in the hub, see
            `clep.hub`; or the URL of a checkpoint or of a model's folder.
        device: where it computes; None for a GPU if there is one.
        allow: modules or classes of your own that the files may name too, e.g. `["mine."]`.

    Raises:
        InputError: there is no model, or its files are damaged or name classes that are neither registered nor allowed.

    Examples:
        >>> import clep
        >>> clep.load("model", device="cpu").embed_text(["opens the fridge", "washes the cup"]).shape
        torch.Size([2, 8])
    """
    name = str(run_or_folder)
    if not is_remote(name) and not Path(name).exists() and published_weights(name) is not None:
        texts = {"sentence_encoder": name, "text_bank_encoder": sentence_model_name(name), "tag_style": "raw"}
        return PretrainedModel(JointSpace(name, metadata=texts), device)
    path = local_model(run_or_folder)
    with explain_refusal(path, allowed(allow)):
        encoder = load_encoder(path, allow)
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
