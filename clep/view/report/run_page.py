"""The report of one run."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from clep.errors import InputError
from clep.evaluation.details import SHOWN, Classes, Hits, Pairs
from clep.machine import in_words as machine_in_words
from clep.metrics.names import by_importance, is_headline
from clep.view.report.charts import Chart, Series, histogram, line_chart, number, reliability_chart, scatter, skyline
from clep.view.report.frames import Frames
from clep.view.report.geometry import MAP_POINTS, flat_map, geometry, verb_groups
from clep.view.report.names import in_words, is_percent
from clep.view.report.page import write_page
from clep.view.report.record import RunRecord, differences_from_defaults
from clep.view.report.statistics import LEVEL, chance, chance_within, interval

TILES, CURVES, EXTREMES = 8, 6, 8
_GROUPS = ("Best", "Typical", "Worst")


def write_run_page(run: RunRecord, path: str | Path, videos: Sequence[str | Path] = ()) -> Path:
    """Write the report of a run.

    Args:
        run: of `read_run`.
        path: of the HTML file.
        videos: folders in which the videos of the gallery are looked up for frames.

    Raises:
        InputError: the folder cannot be written to.
    """
    frames = Frames(videos)
    cards = [_direction(hits, run.pairs, frames) for hits in run.hits]
    return write_page(
        path,
        "run.html",
        title=run.name,
        run=run,
        facts=_facts(run),
        tiles=tiles(run),
        metrics=metric_rows(run),
        curves=curves([run]),
        classes=[class_section(one) for one in run.classes.values() if np.isfinite(one.value).any()],
        cards=cards,
        has_frames=frames.bytes > 0,
        rank_charts=rank_charts(run),
        spaces=[space_section(pairs) for pairs in run.pairs],
        coverage=_coverage(run),
        differences=_differences(run),
        level=LEVEL,
    )


def tiles(run: RunRecord) -> list[dict[str, Any]]:
    """Return the headline metrics with chance, value before training and interval."""
    names = [name for name in by_importance(run.metrics) if is_headline(name) and is_percent(name)]
    names = (names or [name for name in by_importance(run.metrics) if is_percent(name)])[:TILES]
    found = []
    for name in names:
        guess, before, value = chance(run, name), run.before.get(name), run.metrics[name]
        found.append(
            {
                "name": name,
                "value": value,
                "before": before,
                "chance": guess,
                "interval": interval(run, name),
                "marks": [one for one in (("chance", guess), ("before", before)) if one[1] is not None],
            }
        )
    return found


def metric_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Return all metrics: name, chance, before, after, interval."""
    return [
        {
            "name": name,
            "chance": chance(run, name),
            "before": run.before.get(name),
            "after": run.metrics[name],
            "interval": interval(run, name),
        }
        for name in by_importance(run.metrics)
    ]


def curves(runs: Sequence[RunRecord]) -> list[Chart]:
    """Draw each metric over the steps, those of several runs over one another, with the step that was chosen."""
    names = {name for run in runs for row in run.history for name in row} - {"epoch", "step"}
    headlines = [name for name in by_importance(names) if is_headline(name)][:CURVES]
    shown = [*(name for name in ("train/loss", "val/loss") if name in names), *headlines]
    charts = []
    for name in shown:
        series, colours = [], []
        for index, run in enumerate(runs):
            points = [(float(row["step"]), float(row[name])) for row in run.history if _finite(row.get(name))]
            if name in run.before and points:
                points = [(0.0, run.before[name]), *points]
            if points:
                series.append(Series(run.name if len(runs) > 1 else in_words(name), points))
                colours.append(index)
        if not series or sum(len(one.points) for one in series) < 2:
            continue
        mark = None
        if len(runs) == 1 and runs[0].chosen is not None and runs[0].chosen.monitor is not None:
            epoch = runs[0].chosen.epoch
            mark = (float(runs[0].chosen.step), "chosen" if epoch is None else f"epoch {epoch}")
        charts.append(line_chart(in_words(name), series, "steps", mark, colours=colours))
    return charts


def class_section(classes: Classes) -> dict[str, Any]:
    """Return chart, extremes, full table and confusions of the classes of an evaluator."""
    present = np.flatnonzero(np.isfinite(classes.value))
    order = sorted(present.tolist(), key=lambda index: (-classes.value[index], classes.names[index]))
    rows = [(classes.names[index], float(classes.value[index]), int(classes.count[index])) for index in order]
    what = "Accuracy" if classes.measure == "accuracy" else "Average precision"
    chart = skyline(f"{what} of each class, %", [row[0] for row in rows], [row[1] for row in rows])
    extremes = min(EXTREMES, max(1, len(rows) // 2)) if len(rows) > 2 else len(rows)
    confused = [
        {
            "right": classes.names[right],
            "taken": classes.names[taken],
            "count": count,
            "share": 100 * count / max(1, int(classes.count[right])),
        }
        for right, taken, count in classes.confused[:EXTREMES].tolist()
    ]
    calibration = None
    if len(classes.calibration):
        calibration = reliability_chart(
            "Calibration", classes.calibration, "Softmax over classes with the model's scale."
        )
    return {
        "name": classes.name,
        "measure": what,
        "chart": chart,
        "best": rows[:extremes],
        "worst": rows[-extremes:][::-1] if len(rows) > 2 else [],
        "rows": rows,
        "confused": confused,
        "calibration": calibration,
        "without": len(classes.names) - len(rows),
    }


def rank_charts(run: RunRecord) -> list[Chart]:
    """Draw the share of retrieval queries whose correct answer is among the first k, beside chance."""
    charts = []
    for ranks in [run.ranks[hits.name] for hits in run.hits if hits.name in run.ranks]:
        most = int(ranks.answers.max())
        ks = np.unique(np.geomspace(1, most, 40).astype(int))
        reached = [(float(k), 100 * float((ranks.rank <= k).mean())) for k in ks]
        guessed = [(float(k), 100 * float(_chance_within(ranks, int(k)))) for k in ks]
        charts.append(
            line_chart(
                f"{in_words(ranks.name)}: recall at k, %",
                [Series("this run", reached), Series("chance", guessed)],
                "k, the number of answers looked at",
                log_x=True,
                percent=True,
                colours=[0, 8],
            )
        )
    return charts


def space_section(pairs: Pairs) -> dict[str, Any]:
    """Return charts and figures of the embeddings of a gallery."""
    found = geometry(pairs)
    sample = len(pairs.video_rows)
    charts = [
        histogram(
            "Cosine similarity of pairs and non-pairs, % of them",
            [("a moment and its text", found.pairs), ("a moment and another text", found.others)],
            "cosine similarity",
            f"{sample:,} pairs and {len(found.others):,} non-pairs.",
        )
    ]
    if len(found.calibration):
        note = f"Text to video among {sample:,} moments, softmax with the scale {number(pairs.scale)}."
        charts.append(reliability_chart("Calibration of the scale", found.calibration, note))
    if sample >= 3:
        chosen = np.linspace(0, sample - 1, min(sample, MAP_POINTS)).astype(int)
        placed, method = flat_map(pairs.video_rows[chosen])
        texts = [pairs.text[index] for index in chosen.tolist()]
        groups, labels = verb_groups(texts)
        note = f"{len(chosen):,} moments ({method} of the video embeddings), coloured by the verb of their narration."
        charts.append(scatter("Map of the moments", placed, groups, labels, texts, note))
    return {
        "name": pairs.name,
        "charts": charts,
        "gallery": pairs.gallery,
        "sample": sample,
        "figures": [
            ("alignment", found.alignment, "mean squared distance of a moment and its text; 0 is best"),
            ("uniformity of videos", found.video_uniformity, "the lower, the more evenly spread"),
            ("uniformity of texts", found.text_uniformity, "the lower, the more evenly spread"),
            ("modality gap", found.gap, "distance between the centres of videos and texts"),
            ("scale", pairs.scale, "multiplier of similarities in the loss"),
        ],
    }


def _direction(hits: Hits, galleries: Sequence[Pairs], frames: Frames) -> dict[str, Any]:
    """Return the cards of one direction: each query with its most similar answers."""
    pairs = next(one for one in galleries if hits.name.startswith(one.name))
    from_text = hits.name.endswith("t2v")

    def moment(index: int, count: int) -> dict[str, Any]:
        span = float(pairs.start_s[index]), float(pairs.end_s[index])
        return {
            "text": pairs.text[index],
            "video": pairs.video[index],
            "time": f"{_clock(span[0])}–{_clock(span[1])}",
            "frames": frames.strip(pairs.video[index], *span, count),
        }

    cards = []
    for row in range(len(hits.query)):
        answers = [
            moment(int(index), 2) | {"similarity": float(similarity), "right": bool(right)}
            for index, similarity, right in zip(hits.answer[row], hits.similarity[row], hits.right[row], strict=True)
        ]
        cards.append(
            {
                "group": int(hits.group[row]),
                "rank": int(hits.rank[row]),
                "own": float(hits.own[row]),
                "query": moment(int(hits.query[row]), 4),
                "answers": answers[:3] if from_text else answers,
            }
        )
    groups = [(name, [card for card in cards if card["group"] == index]) for index, name in enumerate(_GROUPS)]
    return {"name": hits.name, "from_text": from_text, "gallery": pairs.gallery, "groups": groups, "shown": SHOWN}


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if run.chosen is not None:
        facts.append(("Measured", str(run.chosen)))
    started, ended = run.facts.get("started"), run.facts.get("ended")
    if isinstance(ended, int | float):
        facts.append(("Ended", datetime.fromtimestamp(ended, UTC).strftime("%Y-%m-%d %H:%M UTC")))
    if isinstance(started, int | float) and isinstance(ended, int | float):
        facts.append(("Duration", _duration(ended - started)))
    if run.seconds:
        parts = ", ".join(f"{name.replace('_', ' ')} {_duration(value)}" for name, value in run.seconds.items())
        facts.append(("Of which", parts))
    if isinstance(run.facts.get("machine"), dict):
        facts.append(("Machine", machine_in_words(run.facts["machine"])))
    if isinstance(run.facts.get("versions"), dict):
        facts.append(("Versions", ", ".join(f"{name} {value}" for name, value in run.facts["versions"].items())))
    if run.overrides:
        facts.append(("Typed", " ".join(run.overrides)))
    facts.append(("Folder", str(run.folder)))
    return facts


def _coverage(run: RunRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    sections = []
    for name, counts in run.coverage.items():
        if isinstance(counts, dict):
            inner = {f"{key}: {k}": v for key, of in counts.items() if isinstance(of, dict) for k, v in of.items()}
            outer = {key: value for key, value in counts.items() if not isinstance(value, dict)}
            rows = [(key, f"{v:,}" if isinstance(v, int) else str(v)) for key, v in (outer | inner).items()]
            if rows:
                sections.append((name, rows))
    return sections


def _differences(run: RunRecord) -> list[tuple[str, str, str]]:
    if not run.settings:
        return []
    try:
        return [(key, str(default), str(own)) for key, default, own in differences_from_defaults(run)]
    except InputError:
        return []


def _chance_within(ranks: Any, k: int) -> float:
    """Chance of queries, of which those that share the number of right answers are computed once."""
    if k <= 10:
        return float(chance_within(ranks, k).mean())
    answers, right = ranks.answers.astype(float), ranks.right.astype(float)
    missed = np.clip(1 - k / answers, 0, 1) ** right  # with replacement: close for few right answers among many
    return float((1 - missed).mean())


def _clock(second: float | int) -> str:
    minutes, seconds = divmod(max(second, 0.0), 60)
    return f"{int(minutes)}:{seconds:04.1f}"


def _duration(seconds: float | int) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
