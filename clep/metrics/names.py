"""Order in which metrics are shown: the ones that people compare first."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

HEADLINES = (
    "zeroshot/*/top1",
    "zeroshot/ego_charades/all/*/mAP",
    "zeroshot/*/mAP",
    "zeroshot/*",
    "egomcq/*/accuracy",
    "ek100_mir/mean/mAP",
    "ek100_mir/mean/nDCG",
    "ek100_cls/action/top1",
    "egtea/*",
    "ava/mAP",
    "choice/*/accuracy",
    "val/top1",
    "val/retrieval/t2v/r1",
    "val/retrieval/v2t/r1",
    "retrieval/*",
    "probe/*/top1",
    "knn/*/top1",
)
NO_RESULTS = ("before/", "train/", "seconds/", "ema/")


def by_importance(names: Iterable[str]) -> list[str]:
    """Sort metric names: those of `HEADLINES` first, in that order, then the others by name."""

    def position(name: str) -> tuple[int, str]:
        found = (index for index, pattern in enumerate(HEADLINES) if fnmatchcase(name, pattern))
        return next(found, len(HEADLINES)), name

    return sorted(names, key=position)


def is_headline(name: str) -> bool:
    """Whether a metric is one of `HEADLINES`."""
    return any(fnmatchcase(name, pattern) for pattern in HEADLINES)


def higher_is_better(name: str) -> bool:
    """Whether a metric is better the higher it is; losses and ranks are not."""
    return not name.endswith(("_rank", "loss", "skipped_steps")) and not name.startswith("seconds/")
