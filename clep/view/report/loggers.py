"""Figures, sample retrievals and embeddings of a run for TensorBoard and W&B."""

import base64
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clep.evaluation.details import Classes, Hits, Pairs
from clep.view.report.frames import Frames
from clep.view.report.geometry import geometry
from clep.view.report.record import RunRecord

log = logging.getLogger(__name__)

PROJECTED = 1_000
_PAIRS, _OTHERS = "#0b6e99", "#c4501b"


def log_figures(run: RunRecord, loggers: Sequence[Any], videos: Sequence[str | Path] = ()) -> None:
    """Log the report's figures and sample retrievals as images, and embeddings for TensorBoard's projector.

    Args:
        run: of `read_run`.
        loggers: of Lightning; those without images are left out. Figures need matplotlib (extra `report`).
        videos: folders of videos, for the frames of sample retrievals.
    """
    step = run.chosen.step if run.chosen else 0
    writers = [writer for logger in loggers if (writer := _image_writer(logger, step)) is not None]
    if not writers:
        return
    try:
        for name, picture in _figures(run, Frames(videos)):
            for write in writers:
                write(name, picture)
    except ImportError as error:
        log.info("no figures for the loggers: %s; pip install 'clep[report]'", error)
    for logger in loggers:
        add_embedding = getattr(logger.experiment, "add_embedding", None)  # of TensorBoard
        if add_embedding is None:
            continue
        for pairs in run.pairs:
            rows = pairs.video_rows[:PROJECTED].astype(np.float32)
            texts = [text.replace("\n", " ").replace("\t", " ") for text in pairs.text[: len(rows)]]
            add_embedding(rows, metadata=texts, tag=pairs.name, global_step=step)


def _image_writer(logger: Any, step: int) -> Callable[[str, np.ndarray], None] | None:
    experiment = logger.experiment
    if hasattr(experiment, "add_image"):  # TensorBoard
        return lambda name, picture: experiment.add_image(name, picture, step, dataformats="HWC")
    if type(logger).__name__ == "WandbLogger":
        return lambda name, picture: logger.log_image(key=name, images=[picture])
    return None


def _figures(run: RunRecord, frames: Frames) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and pictures, `[height, width, 3]` of bytes."""
    for pairs in run.pairs:
        yield f"report/{pairs.name}/similarities", _similarities(pairs)
    for classes in run.classes.values():
        if np.isfinite(classes.value).any():
            yield f"report/{classes.name}/classes", _classes(classes)
    for hits in run.hits:
        pairs = next(one for one in run.pairs if hits.name.startswith(one.name))
        yield f"report/{hits.name}/queries", _queries(hits, pairs, frames)


def _similarities(pairs: Pairs) -> np.ndarray:
    found = geometry(pairs)
    figure, axis = _axis(6.0, 3.6)
    for values, label, colour in ((found.pairs, "pairs", _PAIRS), (found.others, "non-pairs", _OTHERS)):
        axis.hist(values, bins=60, density=True, alpha=0.5, color=colour, label=label)
    axis.set(xlabel="cosine similarity", ylabel="density")
    axis.legend(frameon=False)
    return _pixels(figure)


def _classes(classes: Classes) -> np.ndarray:
    values = np.sort(classes.value[np.isfinite(classes.value)])[::-1]
    figure, axis = _axis(6.0, 3.6)
    axis.bar(np.arange(len(values)), values, width=1.0, color=_PAIRS)
    axis.set(ylim=(0, 100), xlabel=f"{len(values)} classes, best first", ylabel=f"{classes.measure}, %")
    return _pixels(figure)


def _queries(hits: Hits, pairs: Pairs, frames: Frames) -> np.ndarray:
    """Draw one line for each query: rank, query, frames where there are any, and the most similar answer."""
    from PIL import Image

    from_text = hits.name.endswith("t2v")
    figure, axis = _axis(11.0, 0.8 * len(hits.query) + 0.3)
    axis.set(xlim=(0, 11), ylim=(len(hits.query), 0))
    axis.axis("off")
    for row, query in enumerate(hits.query.tolist()):
        best = int(hits.answer[row, 0])
        seen = query if not from_text else best
        asked, answered = pairs.text[query], pairs.text[best]
        text = f"rank {hits.rank[row]}:  “{asked[:70]}”\n{'✓' if hits.right[row, 0] else '✗'}  “{answered[:70]}”"
        axis.text(0, row + 0.5, text, va="center", fontsize=9, color=_PAIRS if hits.right[row, 0] else _OTHERS)
        strip = frames.strip(pairs.video[seen], float(pairs.start_s[seen]), float(pairs.end_s[seen]), 3)
        for index, uri in enumerate(strip):
            picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
            axis.imshow(picture, extent=(6.5 + 1.5 * index, 7.9 + 1.5 * index, row + 0.92, row + 0.08), aspect="auto")
    axis.set(xlim=(0, 11), ylim=(len(hits.query), 0))
    return _pixels(figure)


def _axis(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure, figure.subplots()


def _pixels(figure: Any) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
