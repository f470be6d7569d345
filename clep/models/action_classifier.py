"""Action classifier of regions, from short-term features and their long-term context."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clep.config.build import build_module, call
from clep.config.targets import REGISTERED_ONLY, TARGET, Targets
from clep.errors import InputError
from clep.models.feature_bank_operators import FeatureBankOperator
from clep.models.saving import SavedModel, check_model_name, plain_config
from clep.video.encoder import VideoEncoder
from clep.video.regions import region_rows
from clep.video.transforms import normalize


class RegionEncoder(nn.Module):
    """Features of boxes by RoIAlign on the feature map of a trainable video encoder.

    Reads `clips` uint8 `[clips, frames, 3, height, width]`, `boxes` `[batch, 4]` as fractions of the frame, and
    `clip_of_box` `[batch]`.

    Args:
        encoder: a video encoder with a feature map (`VideoEncoder.spatial`).
        checkpointing: activation checkpointing of the encoder's blocks: less memory, a second forward pass.
        roi_size, roi_samples, region_pool: as for region banks, see `clep.video.regions.region_rows`.

    Raises:
        InputError: the encoder has no blocks to checkpoint; when called, it has no feature map.

    Examples:
        >>> import torch
        >>> from clep.models import RegionEncoder
        >>> from clep.video.encoders import TimeSformer
        >>> encoder = RegionEncoder(TimeSformer("timesformer", width=None, depth=None, heads=None))
        >>> clips = torch.zeros(1, 4, 3, 16, 16, dtype=torch.uint8)
        >>> boxes = torch.tensor([[0.1, 0.1, 0.5, 0.9], [0.5, 0.1, 0.9, 0.9]])
        >>> encoder({"clips": clips, "boxes": boxes, "clip_of_box": torch.tensor([0, 0])}).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        checkpointing: bool = False,
        roi_size: int = 7,
        roi_samples: int = 2,
        region_pool: Literal["max", "avg"] = "max",
    ) -> None:
        super().__init__()
        self.encoder = encoder.unwrapped().requires_grad_(True).train()
        self.roi_size, self.roi_samples, self.region_pool = roi_size, roi_samples, region_pool
        if checkpointing:
            self.encoder.checkpoint_activations()

    @property
    def out_dim(self) -> int:
        """Dimension of a region's features."""
        return self.encoder.dim

    def saved_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config with the encoder's architecture, from which it is built without downloading weights."""
        return {**config, "encoder": self.encoder.architecture()}

    def forward(self, batch: dict[str, Tensor]) -> Float[Tensor, "batch dim"]:
        """Return the features of each box.

        Raises:
            InputError: the batch has no clips.
        """
        if "clips" not in batch:
            raise InputError("the model's short-term encoder reads clips, but the batch has none; use short_term=clips")
        spec = self.encoder.clip
        pixels = normalize(batch["clips"], spec.mean, spec.std)
        features = self.encoder.spatial(pixels).mean(2)
        with torch.autocast(device_type=features.device.type, enabled=False):
            return region_rows(
                features.float(),
                batch["boxes"],
                batch["clip_of_box"],
                self.roi_size,
                self.roi_samples,
                self.region_pool,
            )


class ActionClassifier(SavedModel):
    """Linear classifier on `[S, FBO(S, L)]`, after dropout.

    S are short-term features and L a long-term feature bank ("Long-Term Feature Banks", Wu et al., CVPR 2019,
    section 3). Reads `context` `[b, slots, context_dim]` with `context_mask`, and `video` `[b, in_dim]`, the regions'
    rows of a bank, unless the model has a `short_term` encoder.

    Args:
        in_dim: dimension of the short-term features.
        operator: a feature bank operator for `in_dim` and the dimension of the context.
        classes: action ids, one per logit.
        short_term: encoder of short-term features; None reads them from the batch.
        dropout: probability, before the linear layer.
        metadata: see `SavedModel`.

    Raises:
        InputError: no class, a duplicate class, or an operator of another dimension.

    Examples:
        >>> import torch
        >>> from clep.models import ActionClassifier, FBOMax
        >>> model = ActionClassifier(12, FBOMax(12, latent_dim=8), classes=[12, 79, 80])
        >>> context = {"context": torch.randn(2, 60, 12), "context_mask": torch.ones(2, 60, dtype=torch.bool)}
        >>> model({"video": torch.randn(2, 12), **context}).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        in_dim: int,
        operator: FeatureBankOperator,
        classes: list[int],
        short_term: RegionEncoder | None = None,
        dropout: float | int = 0.5,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(metadata)
        if not classes or len(set(classes)) != len(classes):
            raise InputError(f"model.classes={classes} must list at least one action, without duplicates")
        if not 0 <= dropout < 1:
            raise InputError(f"model.dropout={dropout} must be at least 0 and below 1")
        if operator.in_dim != in_dim:
            raise InputError(
                f"operator.in_dim={operator.in_dim}, but the short-term features have dimension {in_dim}; leave "
                f"operator.in_dim=null"
            )
        self.in_dim, self.classes = in_dim, list(classes)
        self.short_term, self.operator = short_term, operator
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(in_dim + operator.out_dim, len(classes))
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], targets: Targets = REGISTERED_ONLY) -> "ActionClassifier":
        """Build a model from a dict, kept for saving with the encoder's architecture instead of its name.

        Args:
            config: the constructor's arguments, `operator` and `short_term` as dicts with `_target_`. With
                `short_term`, `in_dim` and the operator's `in_dim` are set to the dimension of its features.
            targets: the classes they may name.

        Raises:
            InputError: a target outside `targets`, an unknown target or argument; the message names the key.
        """
        arguments = plain_config(config)
        target = check_model_name(cls, arguments.pop(TARGET, None), targets)
        saved = {TARGET: target, **{key: value for key, value in arguments.items() if key != "metadata"}}
        if arguments.get("short_term"):
            short_term = build_module(arguments["short_term"], "model.short_term", targets)
            if not isinstance(short_term, RegionEncoder):
                raise InputError(f"model.short_term: {type(short_term).__name__} is not a RegionEncoder")
            saved["short_term"] = short_term.saved_config(arguments["short_term"])
            arguments["short_term"] = short_term
            arguments["in_dim"] = saved["in_dim"] = short_term.out_dim
            operator = {**(arguments.get("operator") or {}), "in_dim": short_term.out_dim}
            arguments["operator"] = saved["operator"] = operator
        arguments["operator"] = build_module(arguments.get("operator") or {}, "model.operator", targets)
        model = call(cls, arguments, "model")
        model.config = saved
        return model

    def forward(self, batch: dict[str, Tensor]) -> Float[Tensor, "batch classes"]:
        """Return a logit for each region and action.

        Raises:
            InputError: the short-term features have another dimension than `in_dim`.
        """
        short_term = batch["video"] if self.short_term is None else self.short_term(batch)
        if short_term.shape[-1] != self.in_dim:
            encoder = self.metadata.get("bank_encoder") or "the encoder of training"
            raise InputError(
                f"the model has in_dim={self.in_dim}, but the bank's rows have dimension {short_term.shape[-1]}; use a "
                f"bank of {encoder}"
            )
        found = self.operator(short_term, batch["context"], batch["context_mask"])
        return self.head(self.dropout(torch.cat([short_term, found], dim=-1)))
