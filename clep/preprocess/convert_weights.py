"""Job: a published checkpoint → safetensors and JSON, once."""

from pathlib import Path
from typing import Any

from clep.files import PUBLISHED_CONFIG
from clep.models.published.convert import WEIGHTS, convert_weights


def run(
    *,
    kind: str,
    weights: str | Path,
    output: str | Path,
    sizes: str | None = None,
    tokenizer: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Convert the checkpoint of a published model to a folder of safetensors and JSON, which loads faster and as data.

    Use the folder as `encoder.weights=FOLDER` and `text_encoder=KIND:FOLDER`; banks keep the name of the original file.

    Args:
        kind: lavila, avion, egovlp, egovlpv2, egovideo, pe or siglip2 (open_clip's file).
        weights: the released file.
        output: folder for model.safetensors and published.json.
        sizes: JSON file with attention heads and other sizes, for models of sizes that were not released.
        tokenizer: hub name or folder of a tokenizer of transformers, to be copied into the folder; not needed with
            CLIP's tokenizer (lavila, avion, pe).
        overwrite: convert again although the folder holds a model.

    Returns:
        Counts of tensors, parameters and bytes.

    Raises:
        InputError: the file cannot be loaded as this kind, or the folder cannot be written.
    """
    return convert_weights(kind, weights, output, sizes, tokenizer, overwrite)


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    return [Path(options["weights"])]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    folder = Path(options["output"])
    return [folder / WEIGHTS, folder / PUBLISHED_CONFIG]
