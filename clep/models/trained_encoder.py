"""Fine-tuned video encoders: freeze stages for training, and extract features with the trained encoder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clep.config.build import build_module
from clep.config.targets import allowed
from clep.errors import InputError
from clep.hub import local_model
from clep.models.saving import load_folder, load_weights
from clep.remote import is_remote
from clep.video.encoder import VideoEncoder


def train_stages(encoder: VideoEncoder, frozen: int | str, checkpointing: bool, key: str) -> bool:
    """Make an encoder trainable, except for its first stages, in place.

    Args:
        encoder: the encoder.
        frozen: number of first stages that are not trained; "all" freezes the encoder.
        checkpointing: activation checkpointing of its blocks: less memory, a second forward pass.
        key: config key that holds these options, for error messages.

    Returns:
        Whether the encoder is completely frozen.

    Raises:
        InputError: there are fewer stages, or no blocks; or the two options contradict each other.
    """
    stages = encoder.stages()
    if frozen == "all":
        if checkpointing:
            raise InputError(
                f"{key}.checkpointing=true has no effect with {key}.frozen=all, which does not train the encoder; use "
                f"only one of the two"
            )
        encoder.requires_grad_(False)
        return True
    if not isinstance(frozen, int) or not 0 <= frozen < max(1, len(stages)):
        has = f"at most {len(stages) - 1} of {len(stages)}" if stages else "this encoder defines no stages"
        raise InputError(f"{key}.frozen={frozen}: give the number of first stages to freeze, or all; {has}")
    encoder.train()  # encoders are built in evaluation mode, and the trainer does not change modes
    if checkpointing:
        encoder.checkpoint_activations()
    kept = [name for stage in stages[:frozen] for name in stage]
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not any(f"{name}.".startswith(f"{one}.") for one in kept))
    return False


_ENCODER_KEYS = ("encoder", "video.encoder", "short_term.encoder")


class TrainedEncoder(VideoEncoder):
    """Video encoder of a trained `VideoClassifier`, `PixelTower`, or `ActionClassifier` on clips.

    Its name is that of the initial encoder plus a digest of the weights, so that their banks are not mixed up.

    Args:
        weights: folder of a run, or the folder `model` in it; or the URL of one, `hf://user/name` included.
        name: name for the bank; None for the derived name.
        allow: modules or classes of your own that the model's config may name beside the registered classes of clep,
            e.g. `["mine."]`.

    Raises:
        InputError: the model does not exist, has no video encoder, its files are damaged, or its config names a class
            that is neither registered nor allowed.

    Examples:
        >>> from clep.models import TrainedEncoder, VideoClassifier
        >>> encoder = {"_target_": "clep.video.encoders.TimeSformer", "weights": "timesformer"}
        >>> encoder |= {"width": None, "depth": None, "heads": None}
        >>> VideoClassifier.from_config({"encoder": encoder, "classes": ["cut", "wash"]}).save_pretrained("tuned")
        >>> trained = TrainedEncoder("tuned")
        >>> trained.dim, trained.clip.frames
        (16, 4)
    """

    def __init__(self, weights: str, name: str | None = None, allow: str | Sequence[str] = ()) -> None:
        super().__init__()
        folder = local_model(weights) if is_remote(weights) else Path(weights).expanduser()
        if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
            folder = folder / "model"
        content, state = load_folder(folder)
        targets = allowed(allow)
        key, config = _find(content["model"], folder)
        prefix = f"{key}."
        own = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
        encoder = build_module(config, f"model.{key}", targets)
        if not isinstance(encoder, VideoEncoder):
            raise InputError(
                f"{folder / 'config.json'}: model.{key} is not a video encoder; choose a run of "
                f"experiment=finetune_video"
            )
        load_weights(encoder, own, str(folder))
        self.encoder = encoder.requires_grad_(False).eval()
        self.clip, self.dim = encoder.clip, encoder.dim
        self.frame_wise, self.any_size = encoder.frame_wise, encoder.any_size
        self.name = name or f"{encoder.name}-trained-{_digest(own)}"

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Return one row per normalised clip."""
        return self.encoder(pixels)

    def spatial(
        self, pixels: Float[Tensor, "clips frames 3 height width"]
    ) -> Float[Tensor, "clips dim times rows columns"]:
        """Return the feature map."""
        return self.encoder.spatial(pixels)

    def unwrapped(self) -> VideoEncoder:
        """Return the inner encoder, with this name, for further training."""
        self.encoder.name = self.name
        return self.encoder


def _find(model: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the key of the encoder in the model's config, and the encoder's config."""
    for key in _ENCODER_KEYS:
        found: Any = model
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, dict):
            return key, found
    raise InputError(
        f"{folder / 'config.json'} describes a model on frozen features, without a video encoder; choose a run of "
        f"experiment=finetune_video or experiment=demo_end_to_end"
    )


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(state[name].float().numpy()).tobytes())
    return digest.hexdigest()
