"""Moments of feature banks as datasets that fetch a whole batch at once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int32, Int64
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from clep.bank import FeatureBank
from clep.config.build import call
from clep.data.long_term import LongTerm
from clep.data.relevant_texts import RelevantTexts
from clep.data.sampler import Draw
from clep.data.text_tokens import TokenTable
from clep.errors import InputError


@dataclass(frozen=True)
class Moments:
    """Training or evaluation examples (video, start, end, text) as parallel arrays.

    Attributes:
        video: index into the videos of a feature bank, -1 for a video that is not in it.
        start_s, end_s: seconds from the start of the video.
        text_id: index into the distinct texts.
        cut_from: for a bank of clips, whose "videos" are the moments themselves: index of the video that each was cut
            from, to which `start_s` and `end_s` refer. None for a bank of whole videos.

    Examples:
        >>> import numpy as np
        >>> from clep.data import Moments
        >>> moments = Moments(
        ...     video=np.array([0, 0, 3]),
        ...     start_s=np.array([1.0, 5.0, 2.0]),
        ...     end_s=np.array([3.0, 9.0, 4.0]),
        ...     text_id=np.array([2, 0, 2]),
        ... )
        >>> len(moments.select(moments.text_id == 2))
        2
    """

    video: Int64[np.ndarray, " moments"]
    start_s: Float64[np.ndarray, " moments"]
    end_s: Float64[np.ndarray, " moments"]
    text_id: Int64[np.ndarray, " moments"]
    cut_from: Int64[np.ndarray, " moments"] | None = None

    def __len__(self) -> int:
        return len(self.video)

    @classmethod
    def none(cls) -> "Moments":
        """Return no moments."""
        indices, seconds = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(indices, seconds, seconds, indices)

    def select(self, which: Int64[np.ndarray, " chosen"] | Bool[np.ndarray, " moments"]) -> "Moments":
        """Return the moments at these indices, or where this mask is true."""
        cut_from = None if self.cut_from is None else self.cut_from[which]
        return Moments(self.video[which], self.start_s[which], self.end_s[which], self.text_id[which], cut_from)

    @property
    def source_video(self) -> Int64[np.ndarray, " moments"]:
        """Index of the video of each moment, whether the bank holds videos or clips."""
        return self.video if self.cut_from is None else self.cut_from

    def bank_rows(self, bank: FeatureBank, align: str) -> tuple[Int64[Tensor, " moments"], Int64[Tensor, " moments"]]:
        """Return the rows `[first, last)` of each moment in its bank: a window of its video, or all rows of its clip.

        Args:
            bank: the bank that `video` refers to; it has all of them.
            align: see `Window`.
        """
        if self.cut_from is None:
            first, last = bank.window(self.video, self.start_s, self.end_s, align=align)
            return first.cpu(), last.cpu()
        rows, video = bank.first_row.cpu(), torch.from_numpy(self.video)
        return rows[video], rows[video + 1]


def with_rows(
    moments: Moments, bank: FeatureBank, on_missing: str, what: str
) -> tuple[Bool[np.ndarray, " moments"], dict[str, int]]:
    """Mask of the moments that have rows in `bank`, and counts of the others by reason.

    A moment that starts more than one row after the end of its video has no rows; clamping it would silently pair its
    text with the last second of the video.

    Args:
        moments: moments in any order.
        bank: a bank with a clock.
        on_missing: "error" raises on moments without rows, "skip" only counts them.
        what: the source of the moments, for error messages.

    Raises:
        InputError: moments are missing and `on_missing` is "error", or no moment is left.
    """
    if bank.clock is None:
        raise InputError(f"{bank.path} has no clock, which maps seconds to rows; is it a bank of text embeddings?")
    absent = moments.video < 0
    end_s = bank.end_s.cpu().numpy()[np.where(absent, 0, moments.video)]
    late = ~absent & (moments.start_s > end_s + bank.clock.row_seconds)
    if moments.cut_from is not None:
        late[:] = False
    report = {"video not in the bank": int(absent.sum()), "starts after the end of its video": int(late.sum())}
    if moments.cut_from is not None and on_missing == "error" and absent.any():
        raise InputError(
            f"{bank.path} lacks {int(absent.sum())} of the {len(moments)} clips of {what}. Add them with `python -m "
            f"clep.preprocess clips`, or drop them with on_missing=skip"
        )
    if on_missing == "error" and (absent | late).any():
        raise InputError(
            f"{bank.path} lacks the video of {int(absent.sum())} of the {len(moments)} moments of {what}, and "
            f"{int(late.sum())} start after the end of their video. Add the features with `python -m clep.preprocess "
            f"ego4d_features`, or drop such moments with on_missing=skip; a bank with one entry a clip needs the "
            f"source's clips=TABLE"
        )
    present = ~(absent | late)
    if not present.any():
        raise InputError(
            f"no moment of {what} has rows in {bank.path}; do the video ids match? The first in the bank are "
            f"{list(bank.videos[:3])}"
        )
    return present, report


@dataclass(frozen=True)
class Window:
    """Rule for the rows of a moment, its video side; stored with a saved model.

    Attributes:
        align: "centre": the rows whose centre lies in the span; "start": those that start in it, as in the published
            tutorial.
        pool: "mean" gives `video` `[batch, dim]`; "rows" gives `video` `[batch, time, dim]` with `video_mask`.
        max_rows: for "rows", the maximum length of the time axis; it is never longer than the longest window.
        sample: rows of a window with more than `max_rows`: "uniform" (fixed), or "random" in training and uniform in
            evaluation.

    Raises:
        InputError: `max_rows` is below 1.

    Examples:
        >>> from clep.bank import FeatureBank
        >>> from clep.data import Window
        >>> bank = FeatureBank.open("features.h5")
        >>> first, last = bank.window([0, 1], [2.0, 10.0], [6.0, 12.0])
        >>> batch = Window(pool="rows", max_rows=4).gather(bank, first, last)
        >>> batch["video"].shape, batch["video_mask"].shape
        (torch.Size([2, 4, 12]), torch.Size([2, 4]))
    """

    align: Literal["centre", "start"] = "centre"
    pool: Literal["mean", "rows"] = "mean"
    max_rows: int = 16
    sample: Literal["uniform", "random"] = "uniform"

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise InputError(f"window.max_rows={self.max_rows} must be at least 1")

    @classmethod
    def of_model(cls, metadata: Mapping[str, Any]) -> "Window":
        """Return the window that a model was trained with, with uniform sampling, for evaluation.

        Args:
            metadata: metadata of a saved model; the default window if it has none.

        Raises:
            InputError: `metadata.window` has an unknown key, or a value of another type.
        """
        return call(cls, {**(metadata.get("window") or {}), "sample": "uniform"}, "metadata.window")

    def gather(
        self,
        bank: FeatureBank,
        first: Int64[Tensor, " batch"],
        last: Int64[Tensor, " batch"],
        seed: int | None = None,
        length: int | None = None,
    ) -> dict[str, Tensor]:
        """Return `video`, and `video_mask` for "rows", of windows `[first, last)`; float32, on the bank's device.

        Args:
            bank: the feature bank.
            first, last: row indices of each moment's window.
            seed: of a "random" sample; None takes the uniform sample.
            length: length of the time axis, from `time_length` of all windows; None computes it from these windows.
        """
        if self.pool == "mean":
            return {"video": bank.mean(first, last)}
        length = self.time_length(first, last) if length is None else length
        generator = None
        if self.sample == "random" and seed is not None:
            generator = torch.Generator().manual_seed(seed)
        rows, mask = bank.rows(first, last, length, "uniform" if generator is None else "random", generator)
        return {"video": rows, "video_mask": mask}

    def time_length(self, first: Int64[Tensor, " batch"], last: Int64[Tensor, " batch"]) -> int:
        """Return the length of the time axis of windows `[first, last)`: rows of the longest, from 1 to `max_rows`."""
        longest = int((last - first).max()) if len(first) else 0
        return max(1, min(longest, self.max_rows))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict, for a saved model."""
        return asdict(self)


Batch = dict[str, Tensor]


class MomentDataset(Dataset[Batch]):
    """The moments of one source, with the banks of their video features and text embeddings.

    The row indices of all windows are computed once, in one vectorised call; a batch is then one vectorised lookup in
    each bank. Keys of a batch:

    - `video` `[b, d]`, or `[b, t, d]` with `video_mask` `[b, t]`, where t is the length of the longest window of the
      dataset, at most `window.max_rows`;
    - `text` `[b, d]`, `text_id` `[b]`, and `moment` `[b]`, the index in the dataset;
    - with a context: `context` and `context_mask`, see `LongTerm.gather`;
    - with `verb_noun_ids`: `verb` and `noun` `[b, k]`, group ids of the text, padded with -1;
    - with `relevant_texts`: the text is drawn anew for each batch with a seed; `video_verb` and `video_noun` `[b, k]`
      are the group ids of the moment's own text;
    - with `tokens`: `text_tokens` and `text_token_mask` `[b, l]`, l the length of the batch's longest text.

    Args:
        moments: moments whose videos are in `bank`.
        bank: bank of the video features.
        texts: bank of the text embeddings, row `i` for text `i`.
        window: rule for the rows of a moment.
        text_key: `text_key[i]` is the `text_id` of text `i` in a batch; None for `i` itself. Mixed sources use it to
            give equal sentences one id.
        context: rule for the long-term context of a moment; None for no context.

    Raises:
        InputError: a text id exceeds the rows of `texts`, or there is a context but the bank holds clips.

    Examples:
        >>> import numpy as np
        >>> from clep.bank import FeatureBank
        >>> from clep.data import MomentDataset, Moments
        >>> seconds = np.array([1.0, 5.0])
        >>> moments = Moments(np.array([0, 3]), seconds, seconds + 2, text_id=np.array([2, 0]))
        >>> dataset = MomentDataset(moments, FeatureBank.open("features.h5"), FeatureBank.open("texts.h5"))
        >>> batch = dataset.__getitems__([0, 1])
        >>> batch["video"].shape, batch["text"].shape, batch["text_id"].tolist()
        (torch.Size([2, 12]), torch.Size([2, 8]), [2, 0])
    """

    def __init__(
        self,
        moments: Moments,
        bank: FeatureBank,
        texts: FeatureBank,
        window: Window | None = None,
        text_key: Int64[Tensor, " texts"] | None = None,
        context: LongTerm | None = None,
    ) -> None:
        self.moments, self.bank, self.texts = moments, bank, texts
        self.window, self.context = window or Window(), context
        self.text_key = text_key
        self.verb_noun_ids: dict[str, Int32[Tensor, "texts k"]] = {}
        self.tokens: TokenTable | None = None
        self.relevant_texts: RelevantTexts | None = None
        if len(moments) and int(moments.text_id.max()) >= texts.n_rows:
            raise InputError(
                f"{texts.path} has {texts.n_rows} text embeddings, but a moment has text id "
                f"{int(moments.text_id.max())}; the file belongs to other narrations: run `python -m clep.preprocess "
                f"ego4d_narrations` again"
            )
        if context is not None and moments.cut_from is not None:
            raise InputError(
                f"{bank.path} holds clips, so it has no long-term context of them; give a bank of the whole videos, or "
                f"data.context=null"
            )
        self._first, self._last = moments.bank_rows(bank, self.window.align)
        self._length = self.window.time_length(self._first, self._last)
        self._text_id = torch.from_numpy(moments.text_id)
        if context is not None:
            self._video = torch.from_numpy(moments.video)
            self._middle_s = torch.from_numpy((moments.start_s + moments.end_s) / 2)

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, index: int) -> Batch:
        """Return one moment as a batch without the batch axis."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"moment {index} of {len(self)}")
        return {key: value[0] for key, value in self.__getitems__([index % len(self)]).items()}

    def __getitems__(self, draw: Draw | Sequence[int]) -> Batch:
        """Return a whole batch; the seed of a `Draw` is that of its random samples."""
        draw = as_draw(draw)
        return self.gather(self.indices(draw.moments), draw.seed)

    def indices(self, index: Int64[Tensor, " batch"], seed: int | None = None) -> Batch:
        """Return the indices of a batch: `moment`, `text_id`, and the row indices `[first, last)` of the window.

        With a context, also `video_index` in the bank, and `middle_s`, the middle of the moment in seconds. `seed` is
        ignored, since nothing is random.
        """
        batch = {
            "moment": index,
            "text_id": self._text_id[index],
            "first": self._first[index],
            "last": self._last[index],
        }
        if self.context is not None:
            batch["video_index"], batch["middle_s"] = self._video[index], self._middle_s[index]
        return batch

    def gather(self, indices: Batch, seed: int | None = None) -> Batch:
        """Return the batch that `indices` describes: rows on the device of their bank, indices on the host."""
        own_id = text_id = indices["text_id"]
        if self.relevant_texts is not None and seed is not None:
            text_id = self.relevant_texts.draw(own_id, seed)
        batch = self.window.gather(self.bank, indices["first"], indices["last"], seed, self._length)
        if self.context is not None:
            batch |= self.context.gather(self.bank, indices["video_index"], indices["middle_s"], seed)
        batch["text"] = self.texts.take(text_id)
        batch["text_id"] = text_id if self.text_key is None else self.text_key[text_id]
        for key, table in self.verb_noun_ids.items():
            batch[key] = table[text_id].long()
            if self.relevant_texts is not None:
                batch[f"video_{key}"] = table[own_id].long()
        if self.tokens is not None:
            batch |= self.tokens.take(text_id)
        batch["moment"] = indices["moment"]
        return batch


class MixedDataset(Dataset[Batch]):
    """Concatenation of several `MomentDataset`s; a batch is ordered by source.

    Raises:
        InputError: the sources differ in feature dimension, window or context.

    Examples:
        >>> from clep.data import MixedDataset, NarrationSource, Window
        >>> source = NarrationSource("narrations.arrow", "texts.h5", "features.h5", val_fraction=0.0)
        >>> part, held_out = source.open(Window())
        >>> len(part), len(MixedDataset([part, part])), held_out
        (239, 478, None)
    """

    def __init__(self, parts: Sequence[MomentDataset]) -> None:
        self.parts = list(parts)
        for part in self.parts[1:]:
            if (part.bank.dim, part.texts.dim) != (self.parts[0].bank.dim, self.parts[0].texts.dim):
                raise InputError(
                    f"mixed sources need equal feature dimensions: {self.parts[0].bank.path} and "
                    f"{self.parts[0].texts.path} have {self.parts[0].bank.dim} and {self.parts[0].texts.dim}, "
                    f"{part.bank.path} and {part.texts.path} have {part.bank.dim} and {part.texts.dim}"
                )
            if part.window != self.parts[0].window:
                raise InputError(
                    f"mixed sources need one window, but they have {self.parts[0].window} and {part.window}"
                )
            if part.context != self.parts[0].context:
                raise InputError(
                    f"mixed sources need one context, but they have {self.parts[0].context} and {part.context}"
                )
        self.bounds = torch.from_numpy(np.cumsum([0, *(len(part) for part in self.parts)]))

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def __getitems__(self, draw: Draw | Sequence[int]) -> Batch:
        """Return a whole batch, with one gather per source."""
        draw = as_draw(draw)
        return self.gather(self.indices(draw.moments), draw.seed)

    def indices(self, index: Int64[Tensor, " batch"], seed: int | None = None) -> Batch:
        """Return `MomentDataset.indices`, ordered by source, and `source_counts`, the moments of each source."""
        source = torch.bucketize(index, self.bounds[1:], right=True)
        pieces, counts = [], []
        for source_index, part in enumerate(self.parts):
            own = index[source == source_index]
            counts.append(len(own))
            piece = part.indices(own - self.bounds[source_index])
            piece["moment"] = own
            pieces.append(piece)
        batch = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
        batch["source_counts"] = torch.tensor(counts)
        return batch

    def gather(self, indices: Batch, seed: int | None = None) -> Batch:
        """Return the batch that `indices` describes, see `MomentDataset.gather`."""
        indices = dict(indices)
        counts = indices.pop("source_counts").tolist()
        pieces, offset = [], 0
        for part, count in zip(self.parts, counts, strict=True):
            if count:
                own = {key: value[offset : offset + count] for key, value in indices.items()}
                pieces.append(part.gather(own, seed))
            offset += count
        return {key: _concatenate([piece[key] for piece in pieces]) for key in pieces[0]}


@runtime_checkable
class BankDataset(Protocol):
    """Base class of datasets on banks; batches are made in two steps, on the host and on the banks' device."""

    def __len__(self) -> int: ...

    def indices(self, index: Int64[Tensor, " batch"], seed: int | None = None) -> Batch:
        """Return the indices of a batch, without access to a bank."""
        ...

    def gather(self, indices: Batch, seed: int | None = None) -> Batch:
        """Return the batch that `indices` describes."""
        ...


class IndexOnlyDataset(Dataset[Batch]):
    """Yield `indices` instead of batches, for banks on a GPU: loader workers must not touch CUDA memory.

    The DataModule calls `gather` with the indices and the `seed` when the batch is to be moved to the device.
    """

    def __init__(self, dataset: BankDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, draw: Draw | Sequence[int]) -> Batch:
        """Return the indices of a batch, and its `seed`."""
        draw = as_draw(draw)
        return {**self._dataset.indices(draw.moments, draw.seed), "seed": torch.tensor(draw.seed)}


def as_draw(draw: Draw | Sequence[int]) -> Draw:
    """Convert a list of indices, from a sampler without seeds, to a `Draw` with seed 0."""
    return draw if isinstance(draw, Draw) else Draw(torch.as_tensor(draw, dtype=torch.int64), 0)


def identity_collate(batch: Any) -> Any:
    """Return the batch: the `collate_fn` for datasets that fetch whole batches."""
    return batch


def _concatenate(pieces: Sequence[Tensor]) -> Tensor:
    """Concatenate a key of several sources, zero-padding axis 1 to the longest; masks are padded with False."""
    if pieces[0].ndim > 1 and len({piece.shape[1] for piece in pieces}) > 1:
        widest = max(piece.shape[1] for piece in pieces)
        pieces = [pad(piece, (0, 0) * (piece.ndim - 2) + (0, widest - piece.shape[1])) for piece in pieces]
    return torch.cat(list(pieces))
