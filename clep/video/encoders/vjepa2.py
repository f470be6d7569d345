"""V-JEPA 2: a vision transformer over tubes of two frames with rotary positions, pre-trained by prediction."""

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from clep.errors import InputError
from clep.video.encoder import ClipSpec, VideoEncoder
from clep.video.encoders.frozen import check_pixels, encoder_name, freeze, with_size
from clep.video.encoders.hub import (
    IMAGENET,
    Colour,
    checkpoint_layers,
    colour,
    colours,
    load_model,
    model_config,
    plain_config,
    square,
)
from clep.weights import local_weights

Pool = Literal["mean", "attentive"]


class VJEPA2(VideoEncoder):
    """V-JEPA 2 (Assran et al. 2025, arXiv 2506.09985); a row is the mean over tokens, or the attentive pooler's output.

    The predictor is not used. Pixels follow the official processor: short side 256/224 of the crop, centre crop.

    Args:
        weights: a hub name ("facebook/vjepa2-vitl-fpc64-256"), the folder of a downloaded model, or its URL.
        pool: "mean" over tokens, or "attentive": the pooler of a fine-tuned classifier, e.g.
            "facebook/vjepa2-vitl-fpc16-256-ssv2".
        frames: frames of a clip; None: those of the model. Positions are rotary, so that other numbers are allowed.
        name: name for the bank; None derives one.
        architecture: of a model whose weights are loaded afterwards, from the method `architecture`; `weights` is then
            not read.

    Raises:
        InputError: the weights do not exist, cannot be read, or have no pooler; or the frames do not fill tubes.

    Examples:
        The folder `vjepa2` holds a tiny model with random weights.

        >>> import torch
        >>> from clep.video.encoders import VJEPA2
        >>> encoder = VJEPA2("vjepa2")  # or "facebook/vjepa2-vitl-fpc64-256"
        >>> encoder(torch.zeros(2, 4, 3, 32, 32)).shape
        torch.Size([2, 24])
    """

    def __init__(
        self,
        weights: str,
        pool: Pool = "mean",
        frames: int | None = None,
        name: str | None = None,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model: Any
        self.pooler: Any = None
        self.pool: Pool = pool
        weights = local_weights(weights) if architecture is None else weights
        mean, std = self._load(weights) if architecture is None else self._build(**architecture)
        config = self._config
        frames = config.frames_per_clip if frames is None else frames
        if frames < 1 or frames % config.tubelet_size:
            raise InputError(f"frames={frames} must be a multiple of {config.tubelet_size}, the frames of a tube")
        crop_px = square(config.crop_size, weights)
        self.clip = ClipSpec(frames, crop_px, int(crop_px * 256 / 224), mean, std)
        self.dim = config.hidden_size
        derived = with_size(encoder_name(weights, ("facebook",)), frames, crop_px, (config.frames_per_clip, crop_px))
        self.name = name or (derived if pool == "mean" else f"{derived}-attentive")
        freeze(self)

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode normalised clips, one row each.

        Raises:
            InputError: the clips have another number of frames or pixels than the encoder was built for.
        """
        check_pixels(pixels, self)
        tokens = self.model(pixel_values_videos=pixels).last_hidden_state
        return tokens.mean(1) if self.pooler is None else self.pooler(tokens)

    def spatial(
        self, pixels: Float[Tensor, "clips frames 3 height width"]
    ) -> Float[Tensor, "clips dim times rows columns"]:
        """Return the token of each tube after the last norm."""
        check_pixels(pixels, self)
        tokens = self.model(pixel_values_videos=pixels).last_hidden_state
        side = self.clip.crop_px // square(self._config.patch_size, self.name)
        return tokens.unflatten(1, (self.clip.frames // self._config.tubelet_size, side, side)).permute(0, 4, 1, 2, 3)

    def stages(self) -> list[tuple[str, ...]]:
        """Return the embeddings and each block, the last one with the norm and the pooler after it."""
        blocks = [(f"model.layer.{block}",) for block in range(len(self.model.layer))]
        return [("model.embeddings",), *blocks[:-1], (*blocks[-1], "model.layernorm", "pooler")]

    def checkpoint_activations(self) -> None:
        """Recompute each block in the backward pass."""
        checkpoint_layers(self)

    def architecture(self) -> dict[str, Any]:
        """Return the config that builds this model without its weights."""
        own = {"model": plain_config(self._config), "mean": list(self.clip.mean), "std": list(self.clip.std)}
        return {
            "_target_": "clep.video.encoders.VJEPA2",
            "weights": self.name,
            "pool": self.pool,
            "frames": self.clip.frames,
            "name": self.name,
            "architecture": own,
        }

    def _load(self, weights: str) -> tuple[Colour, Colour]:
        from transformers import VJEPA2ForVideoClassification, VJEPA2Model

        location, config = model_config(weights, ("vjepa2",))
        if "VJEPA2ForVideoClassification" in (config.get("architectures") or []):
            classifier = load_model(VJEPA2ForVideoClassification, location)
            model, pooler = classifier.vjepa2, classifier.pooler
        else:
            model, pooler = load_model(VJEPA2Model, location), None
        if self.pool == "attentive" and pooler is None:
            raise InputError(f"weights={weights} has no attentive pooler; use pool=mean, or a fine-tuned classifier")
        self._keep(model, pooler)
        return colours(location, IMAGENET)

    def _build(self, model: dict[str, Any], mean: list[float], std: list[float]) -> tuple[Colour, Colour]:
        from transformers import VJEPA2Config, VJEPA2ForVideoClassification

        classifier = VJEPA2ForVideoClassification(VJEPA2Config(**model))
        self._keep(classifier.vjepa2, classifier.pooler)
        return colour(mean), colour(std)

    def _keep(self, model: Any, pooler: Any) -> None:
        """Keep what a row needs: the encoder, and the pooler where it is used."""
        self._config, self.model = model.config, model.encoder
        self.pooler = pooler if self.pool == "attentive" else None
