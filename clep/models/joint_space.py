"""A published dual encoder on banks: rows and sentence embeddings that share one space already."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from clep.config.build import call
from clep.config.targets import REGISTERED_ONLY, TARGET, Targets
from clep.errors import InputError
from clep.models.dual_encoder import DualEncoder
from clep.models.published.loading import published_scale, same_joint_space
from clep.models.saving import plain_config
from clep.weights import published_weights


class JointSpace(DualEncoder):
    """Compares the rows of a bank with sentence embeddings of the same published model; it has no towers.

    Multiplier and bias are parameters. A bank of texts of another model than the bank of videos is refused.

    Args:
        weights: `KIND:WEIGHTS`, the published model whose multiplier and bias are the initial values. They are saved
            with this model, which then needs no `weights`. Another name, or None: the defaults below.
        normalize: compare by cosine; False compares by dot product, as LaViLa's and AVION's EgoMCQ does.
        init_scale: initial logarithm of the multiplier; None: that of the weights, 0 where they have none (plain
            cosine).
        init_bias: initial value of the bias; None: that of the weights, or no bias.
        max_scale: `clamp_scale` keeps the logarithm of the multiplier in `[0, max_scale]`.
        metadata: see `DualEncoder`.

    Raises:
        InputError: the weights cannot be read, or the metadata name banks of two models.

    Examples:
        >>> import torch
        >>> from clep.models import JointSpace
        >>> model = JointSpace()
        >>> video, text, scale = model({"video": torch.tensor([[3.0, 4.0]]), "text": torch.tensor([[1.0, 0.0]])})
        >>> round(float(video @ text.T), 3), scale.item()
        (0.6, 1.0)
    """

    def __init__(
        self,
        weights: str | None = None,
        normalize: bool = True,
        init_scale: float | int | None = None,
        init_bias: float | int | None = None,
        max_scale: float | int = math.log(100),
        metadata: dict[str, Any] | None = None,
    ) -> None:
        scale, bias = (None, None)
        if weights is not None and published_weights(weights) is not None:
            scale, bias = published_scale(weights)
        if init_scale is None:
            init_scale = 0.0 if scale is None else max(0.0, math.log(scale))
        super().__init__(
            nn.Identity(),
            nn.Identity(),
            normalize=normalize,
            init_scale=init_scale,
            max_scale=max(max_scale, init_scale),
            init_bias=bias if init_bias is None else init_bias,
            metadata=metadata,
        )
        self._bank_encoder = self.metadata.get("bank_encoder") or ""
        if text_bank := self.metadata.get("text_bank_encoder"):
            self._check_space(text_bank)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], targets: Targets = REGISTERED_ONLY) -> "JointSpace":
        """Build the model from a plain dict and remember what it depends on, without `weights`.

        Raises:
            InputError: an argument is unknown or has another type; see the class.
        """
        arguments = plain_config(config)
        arguments.pop(TARGET, None)
        model = call(cls, arguments, "model")
        model.config = {
            TARGET: "clep.models.JointSpace",
            "normalize": model.normalize,
            "init_scale": float(model.log_scale.detach()),
            "init_bias": None if model.logit_bias is None else float(model.logit_bias.detach()),
            "max_scale": model.max_scale,
        }
        return model

    def check_bank(self, encoder_name: str, dim: int | None = None, rows_per_second: float | None = None) -> None:
        """Refuse a bank of another encoder, and remember the name for `check_sentence_encoder`.

        Raises:
            InputError: see `DualEncoder.check_bank`.
        """
        super().check_bank(encoder_name, dim, rows_per_second)
        self._bank_encoder = encoder_name or self._bank_encoder
        if text_bank := self.metadata.get("text_bank_encoder"):
            self._check_space(text_bank)

    def check_sentence_encoder(self, name: str) -> None:
        """Refuse sentence embeddings of another model than the rows.

        Raises:
            InputError: the models differ; both are named.
        """
        super().check_sentence_encoder(name)
        self._check_space(name)

    def _check_space(self, text_encoder: str) -> None:
        if not same_joint_space(self._bank_encoder, text_encoder):
            raise InputError(
                f"the bank holds rows of {self._bank_encoder!r}, and the texts are embeddings of {text_encoder!r}: "
                "they are not of one model. Embed the texts with text_encoder=KIND:WEIGHTS of the bank's model, encode "
                "the videos with encoder.output=joint, or train heads on the two with model=mlp"
            )
