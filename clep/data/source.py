"""Sources of moments: a dataset's moments with the banks of its videos and texts."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from clep.bank import FeatureBank
from clep.bank.storage import Verify, parse_verify
from clep.data.dataset import MomentDataset, Moments, Window, with_rows
from clep.data.long_term import LongTerm
from clep.datasets.clip_spans import SPAN_COLUMNS, find_clip_ids
from clep.datasets.splits import held_out_videos
from clep.datasets.user_table import read_user_table
from clep.errors import InputError
from clep.text import GroupIds, Narrations, Taxonomy, Texts, egovlp_spans, fixed_spans, training_moments
from clep.text.narration_table import ROW_SPLITS

log = logging.getLogger(__name__)

_MOST_DRAWN = 500_000_000  # moments in an epoch of weighted rows; their indices take 4 GB


SPLITS = ("train", "val", "test", "multi")


class Source(ABC):
    """Base class: the moments of one dataset; chosen by `data.sources.NAME`.

    Subclasses define `sentences` and `moments`.

    Args:
        bank: path of the bank of video features.
        texts: path of the bank of text embeddings, whose row i embeds sentence i.
        weight: share of the source when several are mixed; None for its size.
        verify: when rows are compared with their checksums, see `FeatureBank.open`.

    Attributes:
        reads: arguments of the constructor that name files. A run first runs the jobs of `prepare` that write them.
        report: counts, written to coverage.json; set by `moments`.

    Examples:
        >>> import numpy as np
        >>> from clep.data import Moments, Source, Window
        >>> from clep.text import Narrations
        >>> class FirstSeconds(Source):
        ...     def sentences(self):
        ...         return Narrations.open("narrations.arrow").texts
        ...
        ...     def moments(self, bank):
        ...         n = len(bank.videos)
        ...         return Moments(np.arange(n), np.zeros(n), np.full(n, 4.0), np.arange(n)), Moments.none()
        >>> train, held_out = FirstSeconds("features.h5", "texts.h5").open(Window())
        >>> len(train), held_out
        (12, None)
    """

    reads: tuple[str, ...] = ("bank", "texts")

    def __init__(
        self, bank: str | Path, texts: str | Path, weight: float | None = None, verify: Verify = "first_read"
    ) -> None:
        self.bank_path, self.texts_path, self.weight = bank, texts, weight
        self.verify = parse_verify(verify)
        self.report: dict[str, Any] = {}

    @abstractmethod
    def sentences(self) -> Sequence[str]:
        """Return the distinct texts; `Moments.text_id` are indices into them."""

    @abstractmethod
    def moments(self, bank: FeatureBank) -> tuple[Moments, Moments]:
        """Return the training moments and the held-out moments (none: `Moments.none()`), and set `report`.

        Args:
            bank: of `bank_path`; `bank.index(ids)` gives `Moments.video`. Moments without rows in it are refused:
                `with_rows` finds and counts them.

        Raises:
            InputError: a file cannot be used, or no moment is left.
        """

    def verb_noun_ids(self) -> tuple[GroupIds, GroupIds] | None:
        """Return the verb ids and noun ids of each sentence, for `data.verb_noun=given`; None if there are none."""
        return None

    def check_texts(self, texts: FeatureBank) -> None:
        """Refuse text embeddings of other sentences.

        Raises:
            InputError: there is not one row per sentence.
        """
        if texts.n_rows != len(self.sentences()):
            raise InputError(
                f"{texts.path} has {texts.n_rows} rows, but {self.title} has {len(self.sentences())} sentences; embed "
                f"these again"
            )

    @property
    def title(self) -> str:
        """The source in messages."""
        return type(self).__name__

    @property
    def tag_style(self) -> str:
        """How its sentences write narration tags; a saved model remembers it for its queries."""
        return "none"

    def open(
        self, window: Window, device: str = "disk", text_device: str = "disk", context: LongTerm | None = None
    ) -> tuple[MomentDataset, MomentDataset | None]:
        """Open the banks and return the training and the held-out dataset; the latter is None if nothing is held out.

        The held-out dataset takes no random samples.

        Raises:
            InputError: a file is missing or does not belong to the others, or no moment is left.
        """
        bank = FeatureBank.open(self.bank_path, device=device, verify=self.verify)
        texts = FeatureBank.open(self.texts_path, device=text_device, verify=self.verify)
        self.check_texts(texts)
        training, held_out = self.moments(bank)
        for moments in (training, held_out):
            if len(moments):
                with_rows(moments, bank, "error", self.title)
        train = MomentDataset(training, bank, texts, window, context=context)
        if not len(held_out):
            return train, None
        uniform, fixed = replace(window, sample="uniform"), None if context is None else context.fixed()
        return train, MomentDataset(held_out, bank, texts, uniform, context=fixed)


class NarrationSource(Source):
    """The narrations of one dataset as moments, split by video into training and held-out moments.

    Args:
        narrations: path of a `narrations.arrow`.
        texts: path of the bank of its text embeddings.
        bank: path of the bank of video features.
        span: "fixed" is the timestamp ± `offset_s` seconds; "egovlp" is ± beta / (2 alpha), from the density of a
            video's narrations; "given" is the span in the narrations file (jobs egoclip and epic_kitchens); "auto" is
            "given" where the file has spans, else "fixed".
        offset_s: for "fixed".
        exclude_splits: drop the videos that any of Ego4D's benchmarks assigns to these splits; empty keeps all.
        min_words: drop texts with fewer words, not counting the tag.
        duplicate_s: drop a text that the other pass of the video has within this many seconds; 0 keeps both.
        keep_redacted: keep narrations of redacted parts of a video.
        val_fraction: fraction of the videos that is held out for validation, by a hash of their id, so that adding
            videos moves no other video.
        on_missing: "error" or "skip" for moments without rows.
        order: "time" sorts by video and second; "pass" by video, pass and second, as the published tutorial does.
        weight: share of the source when several are mixed; None for its size.
        verify: when rows are compared with their checksums, see `FeatureBank.open`: "first_read", true (all when the
            run starts, the narrations too), "sample" or false.
        clips: path of the table from which the job clips made `bank`, with one entry per clip: a narration has the
            rows of the clip with its span. Not read if the bank holds whole videos; None: it does.
        clip_columns: names of that table's columns where they differ: `{"clip": "narration_id"}`.

    Raises:
        InputError: a number is out of range, or a split is unknown.

    Examples:
        >>> from clep.data import NarrationSource, Window
        >>> source = NarrationSource("narrations.arrow", "texts.h5", "features.h5", offset_s=2.0, val_fraction=0.25)
        >>> train, held_out = source.open(Window())
        >>> len(train), len(held_out)
        (219, 20)
    """

    reads = ("narrations", "texts", "bank")  # arguments that name files

    def __init__(
        self,
        narrations: str | Path,
        texts: str | Path,
        bank: str | Path,
        span: Literal["fixed", "egovlp", "given", "auto"] = "fixed",
        offset_s: float = 2.0,
        exclude_splits: list[str] | tuple[str, ...] = ("val", "test", "multi"),
        min_words: int = 2,
        duplicate_s: float = 1.0,
        keep_redacted: bool = False,
        val_fraction: float = 0.05,
        on_missing: Literal["error", "skip"] = "error",
        order: Literal["time", "pass"] = "time",
        weight: float | None = None,
        verify: Verify = "first_read",
        clips: str | Path | None = None,
        clip_columns: Mapping[str, str | None] | None = None,
    ) -> None:
        if not 0 <= val_fraction < 1:
            raise InputError(f"val_fraction={val_fraction} must be at least 0 and below 1")
        unknown = sorted(set(exclude_splits) - set(SPLITS))
        if unknown:
            raise InputError(f"exclude_splits has {unknown}; choose from Ego4D's splits {', '.join(SPLITS)}")
        if offset_s <= 0:
            raise InputError(f"offset_s={offset_s} must be positive (seconds on either side of a narration)")
        super().__init__(bank, texts, weight, verify)
        self.narrations_path = narrations
        self.span, self.offset_s = span, offset_s
        self.exclude_splits, self.min_words, self.duplicate_s = tuple(exclude_splits), min_words, duplicate_s
        self.keep_redacted, self.val_fraction, self.on_missing = keep_redacted, val_fraction, on_missing
        self.order = order
        self.clips_path, self.clip_columns = clips, clip_columns

    @property
    def title(self) -> str:
        """The path of the narrations."""
        return str(self.narrations_path)

    @property
    def tag_style(self) -> str:
        """The tag style of the narrations file."""
        return Narrations.open(self.narrations_path).tag_style

    def sentences(self) -> Texts:
        """Return the distinct texts of the narrations file."""
        return Narrations.open(self.narrations_path).texts

    def verb_noun_ids(self) -> tuple[GroupIds, GroupIds] | None:
        """Return the verb ids and noun ids of each text, where the narrations file has both."""
        narrations = Narrations.open(self.narrations_path)
        if narrations.verbs is None or narrations.nouns is None:
            return None
        return narrations.verbs, narrations.nouns

    def moments(self, bank: FeatureBank) -> tuple[Moments, Moments]:
        """Return the training and the held-out moments that the filters keep, and set `report`.

        Raises:
            InputError: moments have no rows in the bank, or none is left.
        """
        narrations = Narrations.open(self.narrations_path)
        chosen, dropped = training_moments(
            narrations,
            self.exclude_splits,
            self.min_words,
            self.duplicate_s or None,
            keep_redacted=self.keep_redacted,
        )
        if self.order == "pass":
            chosen = chosen[
                np.lexsort((narrations.second[chosen], narrations.passes[chosen], narrations.video[chosen]))
            ]
        everything = self._moments(narrations, chosen, bank)
        present, missing = with_rows(everything, bank, self.on_missing, str(narrations.path))
        moments, kept = everything.select(present), chosen[present]
        is_train, is_held_out = self._splits(narrations, kept)
        train, held_out = moments.select(is_train), moments.select(is_held_out)
        if not len(train):
            raise InputError(
                f"{narrations.path} has no row of the split train with a row in {bank.path}; check the table's splits, "
                f"or hold fewer videos out (val_fraction)"
            )
        if narrations.weight is not None:
            train = train.select(_drawn(narrations.weight[kept[is_train]], narrations.path))
        counts = {**dropped, **missing, "of another split": int(np.count_nonzero(~(is_train | is_held_out)))}
        reasons = {key: count for key, count in counts.items() if count and key not in ("narrations", "kept")}
        self.report = {
            "narrations": len(narrations),
            "training moments": len(train),
            "held-out moments": len(held_out),
            "held-out videos": len(np.unique(held_out.source_video)),
            "distinct texts": len(narrations.texts),
            **{f"dropped: {reason}": count for reason, count in reasons.items()},
        }
        log.info("%s: %s", self.narrations_path, ", ".join(f"{key} {value}" for key, value in self.report.items()))
        return train, held_out

    def _splits(
        self, narrations: Narrations, kept: Int64[np.ndarray, " kept"]
    ) -> tuple[Bool[np.ndarray, " kept"], Bool[np.ndarray, " kept"]]:
        """Return masks of the training and the held-out moments: by the table's own splits, else by video."""
        row_split = None if narrations.row_split is None else narrations.row_split[kept]
        is_train = np.ones(len(kept), bool) if row_split is None else row_split == ROW_SPLITS.index("train")
        if row_split is not None and (is_held_out := row_split == ROW_SPLITS.index("val")).any():
            return is_train, is_held_out
        video = narrations.video[kept].astype(np.int64)
        is_held_out = is_train & held_out_videos(list(narrations.videos), self.val_fraction, video[is_train])[video]
        return is_train & ~is_held_out, is_held_out

    def _moments(self, narrations: Narrations, chosen: Int64[np.ndarray, " chosen"], bank: FeatureBank) -> Moments:
        has_spans = narrations.start_s is not None and narrations.end_s is not None
        span = ("given" if has_spans else "fixed") if self.span == "auto" else self.span
        if span == "fixed":
            start_s, end_s = fixed_spans(np.asarray(narrations.second[chosen]), self.offset_s)
        elif span == "given":
            if narrations.start_s is None or narrations.end_s is None:
                raise InputError(
                    f"span=given, but {narrations.path} has timestamps and no spans; use span=fixed or span=egovlp, or "
                    f"make it with the job egoclip or epic_kitchens"
                )
            start_s, end_s = narrations.start_s[chosen], narrations.end_s[chosen]
        else:  # the density counts all narrations of a pass, including dropped ones
            spans = egovlp_spans(narrations.video, narrations.passes, np.asarray(narrations.second), chosen)
            start_s, end_s = (side[chosen] for side in spans)
        video, to_bank = narrations.video[chosen], bank.index(list(narrations.videos)).cpu().numpy()
        moments = Moments(
            video=to_bank[video],
            start_s=np.ascontiguousarray(start_s),
            end_s=np.ascontiguousarray(end_s),
            text_id=narrations.text_id[chosen].astype(np.int64),
        )
        if self.clips_path is None or (moments.video >= 0).any():
            return moments
        if span != "given":
            raise InputError(
                f"{bank.path} holds clips, which are found by their spans; use span=given (not {self.span}) with the "
                f"narrations of the job egoclip, epic_kitchens or table"
            )
        table = read_user_table(self.clips_path, SPAN_COLUMNS, self.clip_columns, "clip_columns")
        videos = np.array(narrations.videos, dtype=object)[video]
        clips = find_clip_ids(table, videos, moments.start_s, moments.end_s)
        return replace(moments, video=bank.index(clips).cpu().numpy(), cut_from=video.astype(np.int64))

    def check_texts(self, texts: FeatureBank) -> None:
        """Refuse text embeddings of other narrations.

        Raises:
            InputError: the bank was not made from the texts of this narrations file.
        """
        narrations = Narrations.open(self.narrations_path)
        if self.verify is True:
            narrations.verify()
        if texts.n_rows != len(narrations.texts) or (texts.source and narrations.digest not in texts.source):
            raise InputError(
                f"{texts.path} was not made from the texts of {narrations.path} ({texts.n_rows} rows, "
                f"{len(narrations.texts)} distinct texts); run `python -m clep.preprocess ego4d_narrations` again"
            )


def _drawn(weight: Float32[np.ndarray, " moments"], path: object) -> Int64[np.ndarray, " drawn"]:
    """Return the index of each moment as often as its weight says.

    Of a weight's fraction, 0.5 of 2.5, that share of the moments is taken once more, evenly spread over the table by
    multiples of the golden ratio.

    Raises:
        InputError: no moment is drawn, or more than fit in memory.
    """
    whole = np.floor(weight).astype(np.float64)
    spread = np.arange(1, len(weight) + 1) * 0.6180339887498949 % 1
    times = whole + (spread < weight - whole)
    drawn = float(times.sum())
    if not 1 <= drawn <= _MOST_DRAWN:
        raise InputError(
            f"{path}: the weights of its {len(weight):,} training rows draw {drawn:,.0f} moments in an epoch, which "
            f"should be 1 to {_MOST_DRAWN:,}; a weight of 1 draws a row once: scale the column weight"
        )
    return np.repeat(np.arange(len(weight)), times.astype(np.int64))


def share_text_keys(datasets: list[MomentDataset], sources: Sequence[Source]) -> None:
    """Give equal sentences of different sources one `text_id`, so that they are positives of each other's videos."""
    known: dict[str, int] = {}
    for dataset, source in zip(datasets, sources, strict=True):
        dataset.text_key = torch.tensor([known.setdefault(text, len(known)) for text in source.sentences()])


Parts = Sequence[MomentDataset | None]
_WARN_BELOW = 50.0  # percent of texts with a verb and a noun


def attach_verb_noun_ids(
    sources: Sequence[tuple[str, Source, Parts]],
    verb_noun: Literal["given", "taxonomy"],
    taxonomy: Taxonomy | None,
) -> None:
    """Add the keys `verb` and `noun` to the batches of all datasets, with equal width in all sources.

    Args:
        sources: name, source, and the datasets that were opened from it.
        verb_noun: "given" takes the ids of the narrations file, "taxonomy" matches groups in its texts.
        taxonomy: the taxonomy for "taxonomy".

    Raises:
        InputError: the narrations have no ids, several sources have different ids, or the taxonomy is missing,
            unreadable, or matches no text.
    """
    if verb_noun == "taxonomy" and taxonomy is None:
        raise InputError(
            "data.verb_noun=taxonomy needs data.taxonomy, e.g. "
            "'data.taxonomy={_target_: clep.text.Taxonomy, verbs: CSV, nouns: CSV}'"
        )
    if verb_noun == "given" and len(sources) > 1:
        raise InputError(
            f"data.verb_noun=given with several data.sources ({', '.join(name for name, *_ in sources)}): the verb and "
            "noun ids of different csv files are not comparable. Use data.verb_noun=taxonomy for all of them"
        )
    found = [_ids_of(name, source, taxonomy if verb_noun == "taxonomy" else None) for name, source, _ in sources]
    for key, side in (("verb", 0), ("noun", 1)):
        width = max(1, *(groups[side].widest for groups in found))
        for groups, (_, _, parts) in zip(found, sources, strict=True):
            table = torch.from_numpy(groups[side].padded(width))
            for part in parts:
                if part is not None:
                    part.verb_noun_ids[key] = table


def _ids_of(name: str, source: Source, taxonomy: Taxonomy | None) -> tuple[GroupIds, GroupIds]:
    given = source.verb_noun_ids() if taxonomy is None else taxonomy.match(source.sentences())
    if given is None:
        raise InputError(
            f"data.verb_noun=given, but {source.title} of data.sources.{name} has no verb and noun ids; only the "
            "jobs egoclip and epic_kitchens write them. Use data.verb_noun=taxonomy, which matches groups in the texts"
        )
    verbs, nouns = given
    both = np.diff(verbs.offsets).astype(bool) & np.diff(nouns.offsets).astype(bool)
    share = 100 * float(both.mean()) if len(both) else 0.0
    source.report["% of texts with a verb and a noun"] = round(share, 1)
    log.log(
        logging.INFO if share >= _WARN_BELOW else logging.WARNING,
        "%s: %.1f %% of %d texts have a verb and a noun%s",
        *(source.title, share, len(both)),
        "" if share >= _WARN_BELOW else "; the others have equal texts as their only positives",
    )
    if len(both) and not both.any():
        raise InputError(
            f"data.verb_noun={'taxonomy' if taxonomy is not None else 'given'}: none of the {len(both)} texts of "
            f"{source.title} has a verb and a noun; "
            + (
                f"are {taxonomy.verbs_path} and {taxonomy.nouns_path} in the language of the narrations?"
                if taxonomy is not None
                else "the verb and noun columns of the source csv are empty"
            )
        )
    return verbs, nouns
