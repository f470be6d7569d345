"""The video encoder out of a model that was trained here, to make banks with."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clep.config.build import build_module
from clep.errors import InputError
from clep.models.saving import load_folder, load_weights
from clep.video.encoder import VideoEncoder


def train_stages(encoder: VideoEncoder, frozen: int | str, checkpointing: bool, key: str) -> bool:
    """Make an encoder trainable but for its first stages, and let it recompute activations where that is asked for.

    Args:
        encoder: is changed.
        frozen: so many of its first stages stay as they are; "all" leaves nothing to train.
        checkpointing: keep only what enters each block, and compute the rest again for the gradient.
        key: of the config that holds these options, for messages.

    Returns:
        Whether nothing of it is trained.

    Raises:
        InputError: there are fewer stages or no blocks, or the two options contradict each other.
    """
    stages = encoder.stages()
    if frozen == "all":
        if checkpointing:
            raise InputError(
                f"{key}.checkpointing=true recomputes activations for the gradient of the encoder, which {key}.frozen="
                f"all leaves without one; use only one of the two"
            )
        encoder.requires_grad_(False)
        return True
    if not isinstance(frozen, int) or not 0 <= frozen < max(1, len(stages)):
        has = f"of {len(stages)} at most {len(stages) - 1}" if stages else "this one does not tell its stages"
        raise InputError(f"{key}.frozen={frozen}: give how many of the encoder's first stages stay, or all; {has}")
    encoder.train()  # it came in evaluation mode, in which nothing is recomputed, and the trainer leaves it so
    if checkpointing:
        encoder.checkpoint_activations()
    kept = [name for stage in stages[:frozen] for name in stage]
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not any(f"{name}.".startswith(f"{one}.") for one in kept))
    return False


_PLACES = ("encoder", "video.encoder", "short_term.encoder")


class TrainedEncoder(VideoEncoder):
    """The encoder of a fine-tuned `VideoClassifier`, of the `PixelTower` of a model that was trained end to end, or of
    an `ActionClassifier` that was trained on clips.

    Its name is that of the encoder that training began with and a digest of the weights, so that no bank of one mixes
    with a bank of the other.

    Args:
        weights: a run's folder, or the folder `model` in it.
        name: for the bank, in place of the derived one.

    Raises:
        InputError: there is no such model, it has no encoder that sees pixels, or its files are damaged.
    """

    def __init__(self, weights: str, name: str | None = None) -> None:
        super().__init__()
        folder = Path(weights).expanduser()
        if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
            folder = folder / "model"
        content, state = load_folder(folder)
        place, config = _find(content["model"], folder)
        prefix = f"{place}."
        own = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        encoder = build_module(config, f"model.{place}")
        if not isinstance(encoder, VideoEncoder):
            raise InputError(f"{folder / 'config.json'}: model.{place} is no video encoder")
        load_weights(encoder, own, str(folder))
        self.encoder = encoder.requires_grad_(False).eval()
        self.clip, self.dim = encoder.clip, encoder.dim
        self.frame_wise, self.any_size = encoder.frame_wise, encoder.any_size
        self.name = name or f"{encoder.name}-trained-{_digest(own)}"

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode normalised clips, one row each."""
        return self.encoder(pixels)

    def spatial(
        self, pixels: Float[Tensor, "clips frames 3 height width"]
    ) -> Float[Tensor, "clips dim times rows columns"]:
        """Return what the encoder sees at each place."""
        return self.encoder.spatial(pixels)

    def unwrapped(self) -> VideoEncoder:
        """Return the encoder itself under its name here, to train it further."""
        self.encoder.name = self.name
        return self.encoder


def _find(model: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the place of the encoder among the model's parts, and its config."""
    for place in _PLACES:
        found: Any = model
        for key in place.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict):
            return place, found
    raise InputError(
        f"{folder / 'config.json'} describes a model without a video encoder of its own: it was trained on the rows of "
        f"a frozen one; give a run of experiment=finetune_video or of experiment=demo_end_to_end"
    )


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(state[name].float().numpy()).tobytes())
    return digest.hexdigest()
