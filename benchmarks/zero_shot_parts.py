"""Where the time of a zero-shot evaluation goes, and how far each part is from the peak of the machine.

Each part runs on the inputs that the evaluator gives it. Products are compared with bare matrix products of the same
shapes, and with the FLOP/s of a large square one; the gather with the bytes/s of a large copy. All are measured in the
same run, in turn.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.report import table
from benchmarks.timing import medians, seconds_of, take_turns
from clep.bank import FeatureBank
from clep.compute.float32_matmul import fast_float32_products
from clep.evaluation.zero_shot import ZeroShot
from clep.models import DualEncoder, evaluating

PEAKS = ("a large product", "a large copy")


def parts_of(
    evaluator: ZeroShot, model: DualEncoder, repeats: int, peak_side: int = 2048, copy_mb: int = 256
) -> dict[str, Any]:
    """Return the seconds of each part of `evaluator.run(model)`, and the least that this machine needs for it.

    Args:
        evaluator: has run before, so that its files are open and their rows in the page cache.
        model: towers without a long-term context, on the CPU.
        repeats: turns; medians are kept.
        peak_side: side of the square float32 product whose FLOP/s count as the peak.
        copy_mb: size of the copy whose bytes/s count as the peak, read and written bytes together.

    Returns:
        `seconds` of each part; `flops` and `bytes` by part; `peak`; `bound_s`: products and bytes at the peak, one
        after the other; `share_of_towers`: the share of towers and scores in the evaluation.
    """
    with evaluating(model), fast_float32_products():
        sides, flops, moved = _sides(evaluator, model)
        peaks, work = _peaks(peak_side, copy_mb)
        seconds = medians(take_turns({name: seconds_of(side) for name, side in (sides | peaks).items()}, repeats))
    peak = {name: amount / seconds.pop(name) for name, amount in work.items()}
    bounds = {name: count / peak["a large product"] for name, count in flops.items()}
    bounds |= {name: count / peak["a large copy"] for name, count in moved.items()}
    # Products of these shapes may be faster than the large square one.
    bounds["video tower"] = min(bounds["video tower"], seconds["of it, bare matrix products"])
    whole = seconds["the evaluation"]
    table(
        "parts of the evaluation",
        ("", "seconds", "share", "seconds at the peak"),
        [(name, value, value / whole, bounds.get(name)) for name, value in seconds.items()],
    )
    return {
        "seconds": seconds,
        "flops": flops,
        "bytes": moved,
        "peak": {"flop_per_s": peak["a large product"], "bytes_per_s": peak["a large copy"]},
        "bound_s": sum(bounds.values()),
        "share_of_towers": sum(seconds[name] for name in flops) / whole,
    }


def _sides(
    evaluator: ZeroShot, model: DualEncoder
) -> tuple[dict[str, Callable[[], Any]], dict[str, int], dict[str, int]]:
    """Return the parts as functions, the operations of those that are products, and the bytes that the gather moves."""
    clips, bank, prompts = evaluator._open()
    index = bank.index(clips.ids)
    kept = torch.nonzero(index >= 0).squeeze(1)
    first, last = bank.first_row[index[kept]], bank.first_row[index[kept] + 1]
    spans = list(zip(first.split(evaluator.batch_size), last.split(evaluator.batch_size), strict=True))
    means = [bank.mean(*span) for span in spans]
    halves = [rows.to(bank.dtype) for rows in means]
    towers = [model.video(rows) for rows in means]
    video = torch.cat([model.encode_video({"video": rows}) for rows in means])
    names = list(prompts.videos)
    classifiers = [evaluator._classifier(model, prompts, name).T for name in names]
    scores = {name: video @ one for name, one in zip(names, classifiers, strict=True)}
    bare_tower = [_bare(model.video, rows) for rows in means]

    def text_side() -> list[Tensor]:
        return [evaluator._classifier(model, prompts, name) for name in names]

    def normalised() -> None:
        evaluator.refuse_nan(torch.cat([model._finish(rows) for rows in towers]), "clips")

    sides = {
        "the evaluation": lambda: evaluator.run(model),
        "open the files": lambda: type(evaluator)(evaluator.folder, evaluator.text_encoder)._open(),
        "checksums, at the first read": lambda: FeatureBank.open(bank.path).verify(),
        "gather": lambda: [bank.mean(*span) for span in spans],
        "of it, means to float32": lambda: [rows.float() for rows in halves],
        "video tower": lambda: [model.video(rows) for rows in means],
        "of it, bare matrix products": lambda: [product() for product in bare_tower],
        "normalising, joining, NaN": normalised,
        "text side": text_side,
        "scores": lambda: [video @ one for one in classifiers],
        "metric": lambda: evaluator.score(clips, scores, kept.tolist()),
    }
    n_prompts = sum(len(prompts.video_rows(name)) for name in names)
    flops = {
        "video tower": len(video) * _flops(model.video),
        "text side": n_prompts * _flops(model.text),
        "scores": sum(2 * video.shape[0] * one.numel() for one in classifiers),
    }
    # Rows are read once; their means are written in the bank's dtype, read, and written in float32.
    row_bytes = bank.dim * bank.dtype.itemsize
    moved = {"gather": int((last - first).sum()) * row_bytes + len(video) * (2 * row_bytes + 4 * bank.dim)}
    return sides, flops, moved


def _linear(tower: nn.Module) -> list[nn.Linear]:
    return [layer for layer in tower.modules() if isinstance(layer, nn.Linear)]


def _flops(tower: nn.Module) -> int:
    """Floating-point operations of the linear layers for one row."""
    return sum(2 * layer.in_features * layer.out_features for layer in _linear(tower))


def _bare(tower: nn.Module, rows: Tensor) -> Callable[[], None]:
    """Return the matrix products of the linear layers, into buffers that exist, without bias and activation."""
    steps, left = [], rows
    for layer in _linear(tower):
        out = torch.empty(len(rows), layer.out_features)
        steps.append((left, layer.weight.T, out))
        left = out

    def products() -> None:
        for source, weight, target in steps:
            torch.mm(source, weight, out=target)

    return products


def _peaks(side: int, copy_mb: int) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """Return the work that shows the machine's peak, and its operations or bytes."""
    left, right = torch.rand(side, side), torch.rand(side, side)
    source = torch.ones(copy_mb * 2**20, dtype=torch.uint8)
    target = torch.empty_like(source)
    work = dict(zip(PEAKS, (2.0 * side**3, 2.0 * len(source)), strict=True))
    return dict(zip(PEAKS, (lambda: left @ right, lambda: target.copy_(source)), strict=True)), work
