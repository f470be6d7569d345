"""Verb and noun groups of texts as keys of a batch."""

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from clep.data.dataset import MomentDataset
from clep.data.source import NarrationSource
from clep.errors import InputError
from clep.text import GroupNumbers, Narrations, Taxonomy

log = logging.getLogger(__name__)

Parts = Sequence[MomentDataset | None]
_FEW = 50.0  # percent


def give_tags(
    sources: Sequence[tuple[str, NarrationSource, Parts]],
    tags: Literal["given", "taxonomy"],
    taxonomy: Taxonomy | None,
) -> None:
    """Let the batches of all datasets carry `verb` and `noun`, as wide in one source as in another.

    Args:
        sources: name, source, and the datasets that were opened from it.
        tags: "given" takes the numbers of the narrations file, "taxonomy" finds groups in its texts.
        taxonomy: for "taxonomy".

    Raises:
        InputError: narrations without tags, several sources with tags of their own, no taxonomy, one that cannot be
            read, or one that fits no text.
    """
    if tags == "taxonomy" and taxonomy is None:
        raise InputError(
            "data.tags=taxonomy needs data.taxonomy, e.g. 'data.taxonomy={_target_: clep.text.Taxonomy, verbs: CSV, "
            "nouns: CSV}'"
        )
    if tags == "given" and len(sources) > 1:
        raise InputError(
            f"data.tags=given with several data.sources ({', '.join(name for name, *_ in sources)}): the numbers of "
            f"one csv do not mean the verbs and nouns of another. Use data.tags=taxonomy, which numbers all texts alike"
        )
    found = [_tags_of(name, source, taxonomy if tags == "taxonomy" else None) for name, source, _ in sources]
    for key, side in (("verb", 0), ("noun", 1)):
        width = max(1, *(groups[side].widest for groups in found))
        for groups, (_, _, parts) in zip(found, sources, strict=True):
            table = torch.from_numpy(groups[side].padded(width))
            for part in parts:
                if part is not None:
                    part.tags[key] = table


def _tags_of(name: str, source: NarrationSource, taxonomy: Taxonomy | None) -> tuple[GroupNumbers, GroupNumbers]:
    narrations = Narrations.open(source.narrations_path)
    if taxonomy is not None:
        verbs, nouns = taxonomy.match(narrations.texts)
    elif narrations.verbs is not None and narrations.nouns is not None:
        verbs, nouns = narrations.verbs, narrations.nouns
    else:
        raise InputError(
            f"data.tags=given, but {narrations.path} of data.sources.{name} has no tags; only the jobs egoclip and "
            f"epic_kitchens find them in their csv. Use data.tags=taxonomy, which finds groups in the texts"
        )
    both = np.diff(verbs.offsets).astype(bool) & np.diff(nouns.offsets).astype(bool)
    share = 100 * float(both.mean()) if len(both) else 0.0
    source.report["% of texts with a verb and a noun"] = round(share, 1)
    log.log(
        logging.INFO if share >= _FEW else logging.WARNING,
        "%s: %.1f %% of %d texts have a verb and a noun%s",
        *(narrations.path, share, len(both)),
        "" if share >= _FEW else "; each of the others is told apart from all but equal texts",
    )
    if len(both) and not both.any():
        raise InputError(
            f"data.tags={'taxonomy' if taxonomy is not None else 'given'}: none of the {len(both)} texts of "
            f"{narrations.path} has a verb and a noun; "
            + (
                f"are {taxonomy.verbs_path} and {taxonomy.nouns_path} in the language of the narrations?"
                if taxonomy is not None
                else "the columns of verbs and nouns in the csv that they were made of are empty"
            )
        )
    return verbs, nouns
