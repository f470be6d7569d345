"""Metric names in words."""

_WORDS = {
    "t2v": "text → video",
    "v2t": "video → text",
    "r1": "R@1",
    "r5": "R@5",
    "r10": "R@10",
    "top1": "top\u20111",  # non-breaking hyphen: a narrow column would break the line before the number
    "top5": "top\u20115",
    "mean_rank": "mean rank",
    "median_rank": "median rank",
    "mean_class_accuracy": "mean class accuracy",
    "val": "held-out",
    "zeroshot": "zero-shot",
    "ego_charades": "Charades-Ego",
    "kinetics": "Kinetics",
    "egomcq": "EgoMCQ",
    "ek100_mir": "EPIC-KITCHENS retrieval",
    "ek100_cls": "EPIC-KITCHENS zero-shot",
    "egtea": "EGTEA",
    "ava": "AVA",
    "ema": "averaged weights",
    "choice": "multiple choice",
    "knn": "nearest neighbours",
    "probe": "linear probe",
    "ego": "first person",
    "exo": "third person",
    "all": "all videos",
    "retrieval": "retrieval",
}


def in_words(metric: str) -> str:
    """Return a metric's name in words: "val/retrieval/t2v/r1" is "held-out retrieval text → video R@1"."""
    parts = [_WORDS.get(part, part.replace("_", " ")) for part in metric.split("/")]
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


def is_percent(metric: str) -> bool:
    """Whether a metric is a percentage."""
    last = metric.rsplit("/", 1)[-1]
    return last.startswith(("r1", "r5", "top", "mAP", "accuracy", "nDCG", "mean_class", "probe_", "chance"))
