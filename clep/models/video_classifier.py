"""Video classifier: a video encoder and a linear layer, for supervised fine-tuning."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clep.config.build import build_module, call
from clep.config.targets import REGISTERED_ONLY, TARGET, Targets
from clep.errors import InputError
from clep.models.saving import SavedModel, check_model_name, plain_config
from clep.models.trained_encoder import TrainedEncoder, train_stages
from clep.video.encoder import VideoEncoder
from clep.video.transforms import normalize


class VideoClassifier(SavedModel):
    """Dropout and a linear layer on the output of a video encoder (TimeSformer's class token).

    Args:
        encoder: the video encoder.
        classes: class names.
        dropout: probability, before the linear layer.
        checkpointing: activation checkpointing of the encoder's blocks: less memory, a second forward pass.
        frozen: number of the encoder's first stages that are not trained; "all" trains only the linear layer.
        metadata: see `SavedModel`.

    Raises:
        InputError: fewer than two classes, or options that contradict each other or the encoder.

    Examples:
        >>> import torch
        >>> from clep.models import VideoClassifier
        >>> from clep.video.encoders import TimeSformer
        >>> encoder = TimeSformer("timesformer", width=None, depth=None, heads=None)
        >>> model = VideoClassifier(encoder, ["cut", "wash", "open"], frozen=1)
        >>> model({"pixels": torch.zeros(2, 4, 3, 16, 16, dtype=torch.uint8)}).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        classes: list[str],
        dropout: float | int = 0.0,
        checkpointing: bool = False,
        frozen: int | Literal["all"] = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(metadata)
        if len(classes) < 2:
            raise InputError(f"model.classes={classes} must list at least two classes")
        if not 0 <= dropout < 1:
            raise InputError(f"model.dropout={dropout} must be at least 0 and below 1")
        self.encoder, self.classes = encoder, list(classes)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.dim, len(classes))
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self._is_frozen = train_stages(encoder, frozen, checkpointing, "model")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], targets: Targets = REGISTERED_ONLY) -> "VideoClassifier":
        """Build a model from a dict, kept for saving with the encoder's architecture instead of its name.

        Args:
            config: the constructor's arguments, `encoder` as a dict with `_target_`.
            targets: the classes it may name.

        Raises:
            InputError: a target outside `targets`, an unknown target or argument; the message names the key.
        """
        arguments = plain_config(config)
        target = check_model_name(cls, arguments.pop(TARGET, None), targets)
        encoder = build_module(arguments.get("encoder") or {}, "model.encoder", targets)
        if isinstance(encoder, TrainedEncoder):
            encoder = encoder.unwrapped()
        if not isinstance(encoder, VideoEncoder):
            raise InputError(f"model.encoder: {type(encoder).__name__} is not a video encoder")
        model = call(cls, {**arguments, "encoder": encoder}, "model")
        kept = {key: value for key, value in arguments.items() if key != "metadata"}
        model.config = {TARGET: target, **kept, "encoder": encoder.architecture()}
        return model

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch classes"]:
        """Return logits.

        Args:
            batch: `pixels`, uint8 `[b, frames, 3, h, w]`; or `[b, views, frames, 3, h, w]`, for which the log of the
                mean of the views' probabilities is returned.
        """
        pixels = batch["pixels"]
        if pixels.ndim == 5:
            return self._logits(pixels)
        views = self._logits(pixels.flatten(0, 1)).float().unflatten(0, pixels.shape[:2])
        return views.log_softmax(-1).logsumexp(1) - math.log(pixels.shape[1])

    def _logits(self, pixels: UInt8[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips classes"]:
        clip = self.encoder.clip
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen):
            rows = self.encoder(normalize(pixels, clip.mean, clip.std))
        return self.head(self.dropout(rows))

    def train(self, mode: bool = True) -> "VideoClassifier":
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self._is_frozen:
            self.encoder.eval()
        return self
