"""The real encoders on a sample: the stage `real` of the drill at full size, whose other stages use stand-ins.

A sentence encoder embeds some of the narrations' texts, and the job `ego4d_videos` encodes drawn videos with
EfficientNet-lite0. Both need packages of the extra `demo` and no network; what is not installed is left out with the
reason. Hours for Ego4D's counts are extrapolated from the rates of the samples.
"""

import shutil
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.films import RATE, drawn, repeat_film, write_film
from benchmarks.report import table
from clep.bank import FeatureBank
from clep.demo.annotation_files import random_uid, video_metadata, write_ego4d_json
from clep.demo.full_size import NARRATIONS, ROWS
from clep.errors import InputError
from clep.extraction import text
from clep.preprocess.videos import Ego4DVideos
from clep.text import Narrations, SentenceEncoder, Texts
from clep.video.encoders import EfficientNetLite0

TEXTS = NARRATIONS // 2
"""Distinct texts of the synthetic Ego4D at full size."""
_DRAWN_S = 5  # of a video, then repeated: drawing takes longer than encoding


@dataclass(frozen=True)
class Sample:
    """What is encoded: distinct texts drawn at random, and videos with H.264 at 30 fps.

    Attributes:
        text_encoder: as the setting of that name.
        texts: number of texts; all, if there are fewer.
        videos: number of videos.
        video_s: seconds of a video; a multiple of 5, or less than that.
        width, height: size of the frames; 960 x 540 as in Ego4D's copies of short side 540.
        frames, crop_px: frames of a window and the side of the pictures that EfficientNet-lite0 gets.
    """

    text_encoder: str
    texts: int = 10_000
    videos: int = 10
    video_s: int = 60
    width: int = 960
    height: int = 540
    frames: int = 4
    crop_px: int = 224


def measure(sample: Sample, narrations: Path, folder: Path) -> dict[str, Any]:
    """Encode the sample; return rates, and the hours that they give at full size.

    Args:
        sample: what to encode.
        narrations: the `narrations.arrow` whose texts are drawn.
        folder: for the videos and banks, which are removed at the end.

    Raises:
        InputError: there is no `narrations`; the sentence encoder or EfficientNet-lite0 missing is no error.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        found = {"texts": _texts(sample, narrations, folder), "videos": _videos(sample, folder)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    work_s = sum(part.get("seconds", 0.0) for part in found.values())
    return {"work_s": work_s, "sample": asdict(sample), **found, "extrapolated": extrapolated(found)}


def extrapolated(found: dict[str, Any]) -> dict[str, Any]:
    """Return the hours that Ego4D's texts and rows take at the measured rates; None for a part that was left out."""
    texts, rows = found["texts"].get("texts_per_second"), found["videos"].get("rows_per_second")
    return {
        "texts": TEXTS,
        "texts_hours": texts and TEXTS / texts / 3600,
        "rows": ROWS,
        "rows_hours": rows and ROWS / rows / 3600,
    }


def show(found: dict[str, Any]) -> None:
    """Print what was measured and what was extrapolated from it."""
    hours = found["extrapolated"]
    parts = (
        ("texts", "texts_per_second", f"{hours['texts']:,}", hours["texts_hours"]),
        ("videos", "rows_per_second", f"{hours['rows']:,} rows", hours["rows_hours"]),
    )
    lines = []
    for part, rate, full, expected in parts:
        one = found[part]
        if "skipped" in one:
            print(f"real encoders: {part} are left out: {one['skipped']}")
        else:
            lines.append((f"{part}: {one['encoder']}", one["count"], one["seconds"], one[rate], full, expected))
    if lines:
        columns = ("", "count", "s", "per second", "full size", "hours")
        table("real encoders, hours at full size are extrapolated", columns, lines)


def _texts(sample: Sample, narrations: Path, folder: Path) -> dict[str, Any]:
    """Embed texts as the narrations' job does; the sentence encoder is loaded before the clock starts."""
    distinct = Narrations.open(narrations).texts
    chosen = np.random.default_rng(0).permutation(len(distinct))[: sample.texts]
    some = Texts.of(distinct[index] for index in np.sort(chosen).tolist())
    started = perf_counter()
    try:
        encoder: SentenceEncoder = text.load_encoder(sample.text_encoder, None, 256)
    except InputError as error:
        return {"skipped": str(error)}
    load_s = perf_counter() - started
    bank = text.TextBank(folder, "some_texts", {"texts": some}, sample.text_encoder, some.digest())
    with patch.object(text, "load_encoder", lambda *_: encoder):
        seconds, cpu_s = _timed(bank.write)
    return {
        "encoder": encoder.name,
        "count": len(some),
        "words_a_text": sum(len(one.split()) for one in some) / len(some),
        "load_s": load_s,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "texts_per_second": len(some) / seconds,
    }


def _videos(sample: Sample, folder: Path) -> dict[str, Any]:
    """Draw videos with Ego4D's metadata, and time the job that encodes them, in this process, its start included."""
    encoder = {
        "_target_": "clep.video.encoders.EfficientNetLite0",
        "frames": sample.frames,
        "crop_px": sample.crop_px,
    }
    try:
        EfficientNetLite0(sample.frames, sample.crop_px)
    except InputError as error:
        return {"skipped": str(error)}
    described = _draw(sample, folder / "videos")
    write_ego4d_json(folder / "ego4d.json", described)
    job = Ego4DVideos(
        videos=folder / "videos",
        ego4d_json=folder / "ego4d.json",
        output=folder / "some_videos.h5",
        extraction={"encoder": encoder},
        on_error="stop",
    )
    seconds, cpu_s = _timed(job.run)
    bank = FeatureBank.open(folder / "some_videos.h5")
    return {
        "encoder": bank.encoder,
        "count": len(bank),
        "rows": bank.n_rows,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "rows_per_second": bank.n_rows / seconds,
        "times_real_time": sum(one["duration_sec"] for one in described) / seconds,
    }


def _draw(sample: Sample, folder: Path) -> list[dict[str, Any]]:
    """Write the videos, each with other frames; return their metadata."""
    folder.mkdir()
    rng, seconds = np.random.default_rng(0), min(_DRAWN_S, sample.video_s)
    pictures = drawn(RATE * seconds * sample.videos, sample.width, sample.height)
    described = []
    for index in range(sample.videos):
        uid = random_uid(rng)
        once = write_film(folder / "once.mp4", islice(pictures, RATE * seconds), sample.width, sample.height)
        repeat_film(once, sample.video_s // seconds, folder / f"{uid}.mp4")
        size = (sample.width, sample.height)
        described.append(video_metadata(uid, float(sample.video_s // seconds * seconds), index, size=size))
        once.unlink()
    return described


def _timed(work: Any) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a call."""
    started, cpu = perf_counter(), process_time()
    work()
    return perf_counter() - started, process_time() - cpu
