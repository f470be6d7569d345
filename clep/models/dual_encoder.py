"""Dual encoder: a video tower and a text tower that share an embedding space."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from clep.config.build import build_module, call
from clep.config.check import OneOf
from clep.config.requirements import Need
from clep.config.targets import REGISTERED_ONLY, TARGET, Targets
from clep.errors import InputError
from clep.models.pooling import masked_mean
from clep.models.saving import SavedModel, check_model_name, plain_config
from clep.text import sentence_model_name


class Tower(nn.Module):
    """Base class of towers that read more than one key of a batch, e.g. rows with their mask, or a long-term context.

    `DualEncoder` passes the whole batch to a `Tower`; to any other module it passes `text`, or `video` averaged over
    the rows of a window.

    Examples:
        >>> import torch
        >>> from clep.models import Tower
        >>> class LastRow(Tower):
        ...     requires = classmethod(lambda cls, config: {"data.window.pool": "rows"})
        ...
        ...     def forward(self, batch):
        ...         return batch["video"][:, -1]
        >>> LastRow()({"video": torch.zeros(2, 5, 12)}).shape
        torch.Size([2, 12])
    """

    shares_context = True  # whether `context` may hold rows shared by all moments, see LongTerm.gather_shared

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Return embeddings, not normalised, in any floating dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(batch)")

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this tower needs, by key: values or `clep.config.requirements.Need`s.

        Args:
            config: the tower's own settings.
        """
        return {}

    def saved_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the config for a saved model, from which the tower can be built without other files.

        Args:
            config: the config that the tower was built from, a dict with `_target_`.
        """
        return config


class DualEncoder(SavedModel):
    """Embeds videos and texts into one space.

    A `Tower` gets the whole batch. Any other module gets `batch["text"]`, or `batch["video"]`; if that is `[b, t, d]`,
    it is averaged over the rows in `batch["video_mask"]`.

    Args:
        video: video tower.
        text: text tower.
        scale_form: multiplier of the similarities: "exp" is the exponential of the parameter `log_scale` (CLIP), "raw"
            the parameter itself (Ego4D's published tutorial).
        normalize: normalise embeddings to unit length.
        init_scale: initial value of `log_scale`; the default is ln(1/0.07).
        max_scale: `clamp_scale` keeps `log_scale` in `[0, max_scale]`; the default is ln 100.
        init_bias: initial value of the parameter `logit_bias`, which pairwise losses (`SigmoidLoss`) add to the logits;
            None for a model without bias.
        metadata: what the model depends on besides its weights: `sentence_encoder`, `tag_style`, `prompts`,
            `bank_encoder`, `window`, ... JSON values, saved and loaded with the model.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> import torch
        >>> from clep.models import DualEncoder, ProjectionHead
        >>> model = DualEncoder(video=ProjectionHead(12, 8), text=ProjectionHead(16, 8))
        >>> batch = {"video": torch.randn(4, 12), "text": torch.randn(4, 16)}
        >>> video, text, scale = model(batch)
        >>> video.shape, text.shape, round(scale.item(), 2)
        (torch.Size([4, 8]), torch.Size([4, 8]), 14.29)
    """

    def __init__(
        self,
        video: nn.Module,
        text: nn.Module,
        scale_form: Annotated[str, OneOf("exp", "raw")] = "exp",
        normalize: bool = True,
        init_scale: float | int = math.log(1 / 0.07),
        max_scale: float | int = math.log(100),
        init_bias: float | int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(metadata)
        if scale_form not in ("exp", "raw"):
            raise InputError(f"scale_form={scale_form!r}; choose exp or raw")
        if not 0 <= init_scale <= max_scale:
            raise InputError(f"init_scale={init_scale} must lie between 0 and max_scale={max_scale}")
        if init_bias is not None and not math.isfinite(init_bias):
            raise InputError(f"init_bias={init_bias} must be a finite number, or null for no bias")
        self.video = video
        self.text = text
        self.scale_form = scale_form
        self.normalize = normalize
        self.max_scale = float(max_scale)
        self.log_scale = nn.Parameter(torch.tensor(float(init_scale)))
        self.logit_bias = None if init_bias is None else nn.Parameter(torch.tensor(float(init_bias)))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], targets: Targets = REGISTERED_ONLY) -> "DualEncoder":
        """Build a model from a dict, which is kept for saving.

        Args:
            config: the constructor's arguments; `video`, `text` and other parts of a subclass are dicts with
                `_target_`, an `nn.Module` class.
            targets: the classes they may name.

        Raises:
            InputError: a target outside `targets`, an unknown target or argument, or values that JSON cannot hold; the
                message names the key.
        """
        arguments = plain_config(config)
        target = check_model_name(cls, arguments.pop(TARGET, None), targets)
        saved = {key: value for key, value in copy.deepcopy(arguments).items() if key != "metadata"}
        for key in ("video", "text"):
            if key in arguments and not isinstance(arguments[key], dict):
                raise InputError(f"model.{key}: expected a dict with {TARGET}, got {arguments[key]!r}")
        for key, value in saved.items():
            if key in ("video", "text") or (isinstance(value, dict) and TARGET in value):
                arguments[key] = build_module(value, f"model.{key}", targets)
                if isinstance(arguments[key], Tower):
                    saved[key] = plain_config(arguments[key].saved_config(value))
        model = call(cls, arguments, "model")
        model.config = saved if cls is DualEncoder else {TARGET: target, **saved}
        return model

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Need]:
        """Return the settings of a run that the model needs: towers that end in one space."""
        video, text = config.get("video"), config.get("text")
        dims = [tower.get("out_dim") if isinstance(tower, Mapping) else None for tower in (video, text)]
        if None in dims:
            return {}
        remedy = f"set model.video.out_dim={dims[0]} model.text.out_dim={dims[0]}"
        return {"model.text.out_dim": Need(dims[0], "embeddings of videos and texts are compared", remedy)}

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """Multiplier of the similarities: `exp(log_scale)`, or `log_scale` with `scale_form="raw"`."""
        return self.log_scale.exp() if self.scale_form == "exp" else self.log_scale

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Clamp `log_scale` to `[0, max_scale]`; call it after each optimizer step."""
        self.log_scale.clamp_(0, self.max_scale)

    def encode_video(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Return the video embeddings of a batch, in float32, of unit length if the model normalises.

        Args:
            batch: `video` `[b, d]`, or `[b, t, d]` with a Bool `video_mask` `[b, t]` if windows are padded; and other
                keys that the tower reads.

        Raises:
            ValueError: a key is missing, or `video` has another number of dimensions.
        """
        if isinstance(self.video, Tower):
            return self._finish(self.video(batch))
        rows = _get(batch, "video")
        if rows.ndim == 3:
            rows = masked_mean(rows, batch.get("video_mask"))
        elif rows.ndim != 2:
            raise ValueError(f"batch['video'] must be [b, d] or [b, t, d], got {tuple(rows.shape)}")
        return self._finish(self.video(rows))

    def encode_text(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Return the text embeddings of a batch (`text` `[b, d]`), in float32, of unit length if the model normalises.

        Raises:
            ValueError: a key is missing.
        """
        return self._finish(self.text(batch if isinstance(self.text, Tower) else _get(batch, "text")))

    @property
    def reads_tokens(self) -> bool:
        """Whether the text tower reads tokens rather than embeddings of a frozen sentence encoder."""
        return hasattr(self.text, "tokenize")

    def tokenize(self, sentences: Sequence[str]) -> dict[str, Tensor]:
        """Return the tokens of sentences as a batch for `encode_text`, on the model's device.

        Raises:
            ValueError: the model reads embeddings of a frozen sentence encoder instead.
        """
        if not self.reads_tokens:
            raise ValueError("this model reads text embeddings of a frozen sentence encoder, not tokens")
        tokenize = cast(Callable[[Sequence[str]], dict[str, Tensor]], self.text.tokenize)
        return {key: value.to(self.log_scale.device) for key, value in tokenize(sentences).items()}

    def encode_sentences(self, sentences: Sequence[str], batch_size: int = 512) -> Float[Tensor, "texts embed"]:
        """Return the embeddings of sentences, for a model that reads tokens, in batches of `batch_size`."""
        starts = range(0, max(len(sentences), 1), batch_size)
        pieces = [self.encode_text(self.tokenize(sentences[start : start + batch_size])) for start in starts]
        return torch.cat(pieces)

    def forward(
        self, batch: dict[str, Any]
    ) -> tuple[Float[Tensor, "batch embed"], Float[Tensor, "texts embed"], Float[Tensor, ""]]:
        """Return video embeddings, text embeddings and the scale, the arguments of a loss."""
        return self.encode_video(batch), self.encode_text(batch), self.logit_scale

    def check_sentence_encoder(self, name: str) -> None:
        """Check that text embeddings are of the sentence encoder of training; unknown names pass.

        Raises:
            InputError: the encoders differ; the message names both.
        """
        trained_with = self.metadata.get("sentence_encoder")
        known = {self.metadata.get("text_bank_encoder"), sentence_model_name(trained_with or "")}
        if trained_with and name and sentence_model_name(name) not in known:
            raise InputError(
                f"the model was trained with text embeddings of {trained_with!r}, but these are of {name!r}; "
                f"embed the texts with {trained_with!r} (text_encoder={trained_with})"
            )

    def _finish(self, embedding: Float[Tensor, "batch embed"]) -> Float[Tensor, "batch embed"]:
        with torch.autocast(device_type=embedding.device.type, enabled=False):
            embedding = embedding.float()
            return F.normalize(embedding, dim=-1) if self.normalize else embedding


def _get(batch: dict[str, Any], key: str) -> Tensor:
    if key not in batch:
        raise ValueError(f"the batch has no {key!r}; it has {sorted(batch)}")
    return batch[key]
