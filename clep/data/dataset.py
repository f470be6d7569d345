"""Datasets that fetch a whole batch of moments at once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int32, Int64
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from clep.bank import FeatureBank
from clep.data.long_term import LongTerm
from clep.data.sampler import Draw
from clep.data.text_tokens import TokenTable
from clep.errors import InputError


@dataclass(frozen=True)
class Moments:
    """Training or evaluation examples as parallel arrays.

    Attributes:
        video: index into the videos of a feature bank, -1 for a video it lacks.
        start_s, end_s: the span in seconds from the start of the video.
        text_id: index into the distinct texts.
    """

    video: Int64[np.ndarray, " moments"]
    start_s: Float64[np.ndarray, " moments"]
    end_s: Float64[np.ndarray, " moments"]
    text_id: Int64[np.ndarray, " moments"]

    def __len__(self) -> int:
        return len(self.video)

    def select(self, which: Int64[np.ndarray, " chosen"] | Bool[np.ndarray, " moments"]) -> "Moments":
        """Return the moments at these indices, or where this mask is true."""
        return Moments(self.video[which], self.start_s[which], self.end_s[which], self.text_id[which])


def drop_missing(moments: Moments, bank: FeatureBank, on_missing: str, what: str) -> tuple[Moments, dict[str, int]]:
    """Return the moments that `bank` has rows for, and how many lacked their video or began after its end.

    A moment that starts more than a row after the end of its video has no rows of its own; clamping would silently
    pair its text with the video's last second.

    Args:
        moments: of any order.
        bank: with a clock.
        on_missing: "error" refuses such moments, "skip" leaves them out.
        what: where the moments come from, for the message.

    Raises:
        InputError: some are missing and `on_missing` is "error", or none is left.
    """
    if bank.clock is None:
        raise InputError(f"{bank.path} has no clock, so seconds cannot be found in it; is it a bank of texts?")
    absent = moments.video < 0
    end_s = bank.end_s.cpu().numpy()[np.where(absent, 0, moments.video)]
    late = ~absent & (moments.start_s > end_s + bank.clock.row_seconds)
    report = {"video not in the bank": int(absent.sum()), "starts after the end of its video": int(late.sum())}
    if on_missing == "error" and (absent | late).any():
        raise InputError(
            f"{bank.path} lacks the video of {int(absent.sum())} of the {len(moments)} moments of {what}, and "
            f"{int(late.sum())} start after the end of their video. Add the features with `python -m clep.preprocess "
            f"ego4d_features`, or "
            f"leave such moments out with on_missing=skip"
        )
    kept = moments.select(~(absent | late))
    if not len(kept):
        raise InputError(
            f"no moment of {what} has rows in {bank.path}; do its video ids match? The bank starts with "
            f"{list(bank.videos[:3])}"
        )
    return kept, report


@dataclass(frozen=True)
class Window:
    """How rows are cut around a moment and handed to the model; a saved model remembers it.

    Attributes:
        align: "centre" takes the rows whose centre lies in the span, "start" the published tutorial's.
        pool: "mean" gives `video [batch, dim]`; "rows" gives `video [batch, places, dim]` with `video_mask`: all
            rows where they fit, else `max_rows` of them.
        max_rows: the most places that the time axis has for "rows"; it is no longer than the longest window.
        sample: how rows are chosen where more than `max_rows` are there: "uniform" (fixed) or "random" (in training;
            evaluation is always uniform).
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
        """Return the window that a model was trained with, for evaluation: rows are chosen uniformly.

        Args:
            metadata: of a saved model; the default window where it does not say.
        """
        return cls(**{**metadata.get("window", {}), "sample": "uniform"})

    def gather(
        self,
        bank: FeatureBank,
        first: Int64[Tensor, " batch"],
        last: Int64[Tensor, " batch"],
        seed: int | None = None,
        places: int | None = None,
    ) -> dict[str, Tensor]:
        """Return the video side of a batch from rows `[first, last)` of `bank`, float32, on the bank's device.

        Args:
            bank: where the rows lie.
            first, last: the window of each moment.
            seed: of a "random" sample (the same seed, the same rows); None takes the uniform one.
            places: length of the time axis, from `places` of all windows that should be alike in it; None for what
                these windows need, which waits for the device that they are on.
        """
        if self.pool == "mean":
            return {"video": bank.mean(first, last)}
        places = self.places(first, last) if places is None else places
        generator = None
        if self.sample == "random" and seed is not None:
            generator = torch.Generator(device=bank.device).manual_seed(seed)
        rows, mask = bank.rows(first, last, places, "uniform" if generator is None else "random", generator)
        return {"video": rows, "video_mask": mask}

    def places(self, first: Int64[Tensor, " batch"], last: Int64[Tensor, " batch"]) -> int:
        """Return how long a time axis the windows `[first, last)` need: the longest's rows, in 1 … `max_rows`."""
        longest = int((last - first).max()) if len(first) else 0
        return max(1, min(longest, self.max_rows))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict, to be stored with a model."""
        return asdict(self)


Batch = dict[str, Tensor]


class MomentDataset(Dataset[Batch]):
    """Moments of one source with the banks that their rows and text embeddings lie in.

    The window of each moment is found once, here, for all moments in one vectorised call; a batch is then one gather
    from each bank. Its keys: `video` `[b, d]`, or `[b, t, d]` with `video_mask` `[b, t]`, where t is the rows of the
    longest window of all, at most `window.max_rows`; `text` `[b, d]`, `text_id` and `moment` `[b]`; with a context
    `context` and `context_mask`, gathered from the same bank; `verb` and `noun` `[b, k]` with
    `verb_noun`, the ids of the groups that the text belongs to, padded with -1; with `tokens` `text_tokens` and
    `text_token_mask` `[b, longest]`.

    Args:
        moments: every one of them has its video in `bank`.
        bank: the video features.
        texts: the text embeddings, row `i` for text `i`.
        window: how rows become the video side.
        text_key: `text_key[i]` is the id that positives see for text `i`; None for `i` itself. Sources that are mixed
            share keys where they share sentences.
        context: which rows around each moment are its long-term context; None for no context.

    Raises:
        InputError: a text id beyond the rows of `texts`.
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
        if len(moments) and int(moments.text_id.max()) >= texts.n_rows:
            raise InputError(
                f"{texts.path} has {texts.n_rows} text embeddings, but a moment wants number "
                f"{int(moments.text_id.max())}; it was made from "
                f"other narrations: run `python -m clep.preprocess ego4d_narrations` again"
            )
        first, last = bank.window(moments.video, moments.start_s, moments.end_s, align=self.window.align)
        self._first, self._last = first.cpu(), last.cpu()
        self._places = self.window.places(self._first, self._last)
        self._text_id = torch.from_numpy(moments.text_id)
        if context is not None:
            self._video = torch.from_numpy(moments.video)
            self._middle_s = torch.from_numpy((moments.start_s + moments.end_s) / 2)

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, index: int) -> Batch:
        """Return one moment as a batch without its batch axis."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"moment {index} of {len(self)}")
        return {key: value[0] for key, value in self.__getitems__([index % len(self)]).items()}

    def __getitems__(self, draw: Draw | Sequence[int]) -> Batch:
        """Return a whole batch; a `Draw` also seeds what is random in it."""
        draw = as_draw(draw)
        return self.gather(self.numbers(draw.moments), draw.seed)

    def numbers(self, index: Int64[Tensor, " batch"]) -> Batch:
        """Return a batch as numbers only: `moment`, `text_id`, and the rows `[first, last)` of the bank.

        With a context, also the number of each moment's video and the second of its middle.
        """
        batch = {
            "moment": index,
            "text_id": self._text_id[index],
            "first": self._first[index],
            "last": self._last[index],
        }
        if self.context is not None:
            batch["video_number"], batch["middle_s"] = self._video[index], self._middle_s[index]
        return batch

    def gather(self, numbers: Batch, seed: int | None = None) -> Batch:
        """Turn the numbers of a batch into features, on the device of the bank."""
        text_id = numbers["text_id"]
        batch = self.window.gather(self.bank, numbers["first"], numbers["last"], seed, self._places)
        if self.context is not None:
            batch |= self.context.gather(self.bank, numbers["video_number"], numbers["middle_s"], seed)
        batch["text"] = self.texts.take(text_id).to(self.bank.device)
        if self.text_key is not None and self.text_key.device != text_id.device:
            self.text_key = self.text_key.to(text_id.device)
        batch["text_id"] = text_id if self.text_key is None else self.text_key[text_id]
        for key, table in self.verb_noun_ids.items():
            if table.device != text_id.device:
                self.verb_noun_ids[key] = table = table.to(text_id.device)
            batch[key] = table[text_id].long()
        if self.tokens is not None:
            batch |= self.tokens.take(text_id)
        batch["moment"] = numbers["moment"]
        return batch


class MixedDataset(Dataset[Batch]):
    """Several `MomentDataset`s as one: moment `i` counts through them one after the other.

    A batch holds the moments of each source together, in the order of the sources.

    Raises:
        InputError: the sources differ in the size of their rows, in their window or in their context.
    """

    def __init__(self, parts: Sequence[MomentDataset]) -> None:
        self.parts = list(parts)
        for part in self.parts[1:]:
            if (part.bank.dim, part.texts.dim) != (self.parts[0].bank.dim, self.parts[0].texts.dim):
                raise InputError(
                    f"mixed sources need rows of one size: {self.parts[0].bank.path} and {self.parts[0].texts.path} "
                    f"have "
                    f"{self.parts[0].bank.dim} and {self.parts[0].texts.dim}, {part.bank.path} and {part.texts.path} "
                    f"have {part.bank.dim} and {part.texts.dim}"
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
        """Return a whole batch, gathered from each source at once."""
        draw = as_draw(draw)
        return self.gather(self.numbers(draw.moments), draw.seed)

    def numbers(self, index: Int64[Tensor, " batch"]) -> Batch:
        """Return the numbers of a batch with `source` and, for each source, how many of the batch are its own."""
        source = torch.bucketize(index, self.bounds[1:], right=True)
        pieces, counts = [], []
        for number, part in enumerate(self.parts):
            own = index[source == number]
            counts.append(len(own))
            piece = part.numbers(own - self.bounds[number])
            piece["moment"] = own
            pieces.append(piece)
        batch = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
        batch["source_counts"] = torch.tensor(counts)
        return batch

    def gather(self, numbers: Batch, seed: int | None = None) -> Batch:
        """Turn the numbers of a batch into features, on the device of the banks."""
        numbers = dict(numbers)
        counts = numbers.pop("source_counts").tolist()
        pieces, offset = [], 0
        for part, count in zip(self.parts, counts, strict=True):
            if count:
                own = {key: value[offset : offset + count] for key, value in numbers.items()}
                pieces.append(part.gather(own, seed))
            offset += count
        return {key: _joined([piece[key] for piece in pieces]) for key in pieces[0]}


class IndexOnlyDataset(Dataset[Batch]):
    """The numbers of a dataset's batches without its banks: what loader workers hold when the bank lies on a GPU."""

    def __init__(self, dataset: MomentDataset | MixedDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, draw: Draw | Sequence[int]) -> Batch:
        """Return the numbers of a batch, and its seed."""
        draw = as_draw(draw)
        return {**self._dataset.numbers(draw.moments), "seed": torch.tensor(draw.seed)}


def as_draw(draw: Draw | Sequence[int]) -> Draw:
    """Read a list of indices, as a plain sampler gives it, as a draw with seed 0."""
    return draw if isinstance(draw, Draw) else Draw(torch.as_tensor(draw, dtype=torch.int64), 0)


def identity_collate(batch: Any) -> Any:
    """Be the `collate_fn` of a loader whose dataset fetches whole batches."""
    return batch


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    """Join a key of several sources' batches; tokens and rows, as many as each source's longest, get zeros after them.

    What stands there does not matter, since the mask, padded too, says that nothing is there.
    """
    if pieces[0].ndim > 1 and len({piece.shape[1] for piece in pieces}) > 1:
        widest = max(piece.shape[1] for piece in pieces)
        pieces = [pad(piece, (0, 0) * (piece.ndim - 2) + (0, widest - piece.shape[1])) for piece in pieces]
    return torch.cat(list(pieces))
