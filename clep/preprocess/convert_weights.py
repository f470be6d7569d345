"""Job: a published checkpoint → safetensors and JSON, once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.models.published.convert import WEIGHTS, convert_weights
from clep.preprocess.job import Job, given_paths
from clep.weights import PUBLISHED_CONFIG


@dataclass(frozen=True, kw_only=True)
class ConvertWeights(Job, job="convert_weights"):
    """The checkpoint of a published model → a folder of safetensors and JSON.

    The folder serves as `encoder.weights=FOLDER` and `text_encoder=KIND:FOLDER`; banks have the name that the original
    file gives them. Optimizer state and pickled objects are left out.

    Attributes:
        kind: lavila, avion, egovlp, egovlpv2, egovideo, pe or siglip2 (open_clip's file).
        weights: the released file.
        output: folder for model.safetensors and published.json.
        sizes: JSON file with attention heads and other sizes, for models of sizes that were not released.
        tokenizer: hub name or folder of a tokenizer of transformers, to be copied into the folder; not needed with
            CLIP's tokenizer (lavila, avion, pe).
        overwrite: convert again although the folder holds a model.
    """

    kind: str = "lavila"
    weights: str | Path = "${paths.data}/weights/${.kind}.pth"
    output: str | Path = "${paths.out}/weights/${.kind}"
    sizes: str | None = None
    tokenizer: str | None = None
    overwrite: bool = False

    def inputs(self) -> list[Path]:
        """Return the released file, and the sizes."""
        return given_paths(self.weights, self.sizes)

    def outputs(self) -> list[Path]:
        """Return the weights and what is known about them."""
        return [Path(self.output) / WEIGHTS, Path(self.output) / PUBLISHED_CONFIG]

    def run(self) -> dict[str, Any]:
        """Return counts of tensors, parameters and bytes.

        Raises:
            InputError: the file cannot be loaded as this kind, or the folder cannot be written.
        """
        return convert_weights(self.kind, self.weights, self.output, self.sizes, self.tokenizer, self.overwrite)
