"""Base class of benchmarks of clips and sentences: clips are looked up in a bank, sentences in a text bank."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from clep.bank import FeatureBank
from clep.data import LongTerm, Window
from clep.data.feature_check import check_bank
from clep.datasets.clip_spans import ClipSpans
from clep.datasets.moment_table import refuse_other_units, without_suffix
from clep.errors import InputError
from clep.evaluation.evaluator import Evaluator, model_device
from clep.models import DualEncoder
from clep.models.published import load_sentence_encoder
from clep.remote import exists
from clep.text import Texts, substitute_tags
from clep.weights import sentence_model_name

log = logging.getLogger(__name__)

Similarity = Literal["model", "cosine", "dot"]


@dataclass(frozen=True)
class ClipEmbeddings:
    """Embeddings of the clips that a bank has.

    Attributes:
        rows: one embedding per clip, or one per view of it.
        clip: index of the clip of each embedding, ascending.
        kept: indices of the clips that have any.
    """

    rows: Float[Tensor, "rows dim"]
    clip: Int64[np.ndarray, " rows"]
    kept: Int64[np.ndarray, " kept"]


class ClipTextBenchmark(Evaluator):
    """Base class: compares clips with sentences. Subclasses define `measure`.

    A clip is looked up in the bank by its own id (all rows of it are the clip), else as the span of its video. Clips
    that the bank has neither way are left out and counted in `coverage`.

    Args:
        bank: path of the feature bank.
        texts: path of the bank of the sentences' embeddings, from the benchmark's job; None to embed them with the
            model's sentence encoder. Not read for a model that reads tokens.
        similarity: "model" compares as the model was trained, "cosine" by unit vectors, "dot" by plain dot products.
        batch_size: clips encoded at once.

    Raises:
        InputError: another `similarity`.
    """

    job = ""  # of clep.preprocess, which makes the text bank; for messages

    def __init__(
        self, bank: str | Path, texts: str | Path | None, similarity: Similarity = "model", batch_size: int = 4096
    ) -> None:
        super().__init__(batch_size)
        if similarity not in ("model", "cosine", "dot"):
            raise InputError(f"similarity={similarity!r}; choose model, cosine or dot")
        self.bank_path, self.similarity = Path(bank), similarity
        self.texts_path = None if texts is None else Path(texts)
        self._embedded: tuple[tuple[str, str], Tensor] | None = None

    @property
    def title(self) -> str:
        """Name of the benchmark in messages."""
        return f"benchmark {self.job}"

    @contextmanager
    def compared(self, model: Any) -> Iterator[DualEncoder]:
        """Yield the model with the normalisation that the setting `similarity` selects, and restore its own.

        Raises:
            InputError: the model has no text side.
        """
        if not isinstance(model, DualEncoder):
            raise InputError(
                f"evaluator {self.job} compares clips with sentences, which a {type(model).__name__} cannot embed; "
                f"give a model of a contrastive run"
            )
        before = model.normalize
        model.normalize = before if self.similarity == "model" else self.similarity == "cosine"
        try:
            yield model
        finally:
            model.normalize = before

    def encode_clips(self, model: DualEncoder, spans: ClipSpans, views: bool = False) -> ClipEmbeddings:
        """Embed the clips that the bank has, and count them in `coverage`.

        Args:
            model: under `compared`.
            spans: the clips.
            views: embed each row of a clip by itself, as one view of it.

        Raises:
            InputError: the bank is missing or of another encoder than the model's, or has none of the clips.
        """
        bank = FeatureBank.open(self.bank_path)
        check_bank(model, bank)
        window, context = Window.of_model(model.metadata), LongTerm.of_model(model.metadata)
        kept, video, first, last, middle_s = find_clips(bank, spans, window.align, self.title)
        if not len(kept):
            raise InputError(
                f"{bank.path} has none of the {len(spans)} clips of {self.title}, neither by their ids "
                f"({spans.ids[0]!r}, …) nor as spans of their videos ({spans.videos[0]!r}, …); its own ids are "
                f"{list(bank.videos[:3])}"
            )
        clip = kept
        if views:
            counts = last - first
            clip = kept.repeat_interleave(counts)
            video, middle_s = video.repeat_interleave(counts), middle_s.repeat_interleave(counts)
            starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
            first = first.repeat_interleave(counts) + torch.arange(len(clip)) - starts
            last = first + 1
        device = model_device(model)

        def encode(which: Tensor) -> Tensor:
            batch = window.gather(bank, first[which], last[which])
            if context is not None:
                batch |= context.gather(bank, video[which], middle_s[which])
            return model.encode_video({key: value.to(device) for key, value in batch.items()})

        at_once = self.batch_size if context is None else context.at_once(self.batch_size)
        rows = self.encode(len(clip), encode, at_once)
        self.coverage = {"clips": len(spans), "clips with features": len(kept)}
        if len(kept) < len(spans):
            log.warning("%s: %d of %d clips have features in %s", self.job, len(kept), len(spans), bank.path)
        return ClipEmbeddings(rows, clip.numpy(), kept.numpy())

    def encode_sentences(self, model: DualEncoder, sentences: Sequence[str]) -> Float[Tensor, "sentences dim"]:
        """Embed distinct sentences, written in the model's tag style.

        Raises:
            InputError: the text bank is missing, of other sentences, or of another sentence encoder than the model's.
        """
        style = model.metadata.get("tag_style") or "clean"
        written = [substitute_tags(text, style) for text in sentences]
        if model.reads_tokens:
            embedded = model.encode_sentences(written)
        else:
            rows = self._embed(model, written) if self.texts_path is None else self._rows(model, written, style)
            pieces = [model.encode_text({"text": some.to(model_device(model))}) for some in rows.split(self.batch_size)]
            embedded = torch.cat(pieces)
        self.refuse_nan(embedded, "sentences")
        return embedded

    def _embed(self, model: DualEncoder, sentences: Sequence[str]) -> Float[Tensor, "sentences dim"]:
        """Embed sentences with the sentence encoder of the model; those of the last call are kept."""
        name = model.metadata.get("sentence_encoder")
        if not name:
            raise InputError(
                "the model does not say which sentence encoder it was trained with; set its metadata sentence_encoder "
                "(text_encoder=NAME with model=joint_space), or give embedded sentences (texts=BANK)"
            )
        model.check_sentence_encoder(sentence_model_name(name))
        key = name, Texts.of(sentences).digest()
        if self._embedded is None or self._embedded[0] != key:
            self._embedded = key, torch.from_numpy(load_sentence_encoder(name, "cpu").encode(list(sentences)))
        return self._embedded[1]

    def _rows(self, model: DualEncoder, sentences: Sequence[str], style: str) -> Float[Tensor, "sentences dim"]:
        texts = self._text_bank(sentences, style)
        model.check_sentence_encoder(texts.encoder)
        self._check_joint_space(model, texts)
        return texts.take(torch.arange(len(sentences)))

    def _text_bank(self, sentences: Sequence[str], style: str) -> FeatureBank:
        assert self.texts_path is not None
        command = f"python -m clep.preprocess {self.job} tag_style={style}"
        if not exists(self.texts_path):
            raise InputError(f"{self.texts_path} does not exist; make it with `{command} text_encoder=NAME`")
        texts = FeatureBank.open(self.texts_path)
        if texts.n_rows != len(sentences) or texts.source != Texts.of(sentences).digest():
            raise InputError(
                f"{texts.path} has the embeddings of {texts.n_rows} other sentences than the {len(sentences)} of this "
                f"benchmark (other files, template or tag style); make it again with `{command}`"
            )
        return texts

    def _check_joint_space(self, model: DualEncoder, texts: FeatureBank) -> None:
        """Refuse to compare rows with texts of another dimension where no tower projects them."""
        bank = FeatureBank.open(self.bank_path)
        if isinstance(model.video, nn.Identity) and isinstance(model.text, nn.Identity) and bank.dim != texts.dim:
            raise InputError(
                f"{bank.path} has {bank.dim} dimensions ({bank.encoder!r}) and {texts.path} has {texts.dim} "
                f"({texts.encoder!r}): they are not of one model; make both with the same one"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_embedded": None}


def find_clips(
    bank: FeatureBank, spans: ClipSpans, align: str, title: str = "the benchmark"
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " kept"], Int64[Tensor, " kept"], Int64[Tensor, " kept"], Tensor]:
    """Find the rows of clips in a bank, by the clip's id or as the span of its video.

    Ids may have a file suffix that those of the bank lack, or lack one that they have.

    Args:
        bank: of either kind, or of both.
        spans: the clips.
        align: see `FeatureBank.window`.
        title: of the benchmark, for messages.

    Returns:
        Indices of the clips that were found; of each its video in the bank, the first and one past the last of its
        rows, and the second in the middle of it.

    Raises:
        InputError: many spans start after the end of their video, so that the times are not seconds.
    """
    own, video = find_videos(bank, spans.ids), find_videos(bank, spans.videos)
    start_s, end_s = torch.from_numpy(spans.start_s.copy()), torch.from_numpy(spans.end_s.copy())
    is_span = (own < 0) & (video >= 0) & start_s.isfinite() & end_s.isfinite()
    if bool(is_span.any()) and bank.clock is not None:
        video_end_s = bank.end_s.cpu()[video.clamp(min=0)]
        refuse_other_units(
            title,
            spans.start_s,
            spans.end_s,
            (video_end_s + bank.clock.row_seconds).numpy(),
            is_span.numpy(),
            lambda row: spans.videos[row],
            "the rate of the features (rows_per_second)",
        )
        is_span &= start_s <= video_end_s + bank.clock.row_seconds
    first, last = torch.full_like(own, -1), torch.full_like(own, -1)
    middle_s = (start_s + end_s) / 2
    by_id = own >= 0
    first[by_id], last[by_id] = bank.first_row.cpu()[own[by_id]], bank.first_row.cpu()[own[by_id] + 1]
    if bool(by_id.any()) and bank.clock is not None:
        middle_s[by_id] = bank.end_s.cpu()[own[by_id]] / 2
    if bool(is_span.any()):
        found = bank.window(video[is_span], start_s[is_span], end_s[is_span], align=align)
        first[is_span], last[is_span] = found[0].cpu(), found[1].cpu()
    kept = torch.nonzero(last > first).squeeze(1)
    index = torch.where(by_id, own, video)
    return kept, index[kept], first[kept], last[kept], middle_s[kept]


def find_videos(bank: FeatureBank, ids: Sequence[str]) -> Int64[Tensor, " ids"]:
    """Return the index in a bank of each id, -1 where it lacks it; a file suffix on either side is ignored."""
    index = bank.index(ids).cpu()
    missing = torch.nonzero(index < 0).squeeze(1).tolist()
    if missing:
        without = {without_suffix(name): position for position, name in enumerate(bank.videos)}
        index[missing] = torch.tensor([without.get(without_suffix(ids[i]), -1) for i in missing], dtype=torch.int64)
    return index
