"""VideoMAE: a vision transformer over tubes of two frames."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from clep.errors import InputError
from clep.video.encoder import ClipSpec, VideoEncoder
from clep.video.encoders.frozen import check_pixels, encoder_name, freeze
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


class VideoMAE(VideoEncoder):
    """VideoMAE (Tong et al. 2022, arXiv 2203.12602); a row is the mean over all tokens.

    A fine-tuned model's row is the input of its classifier: the mean over tokens, then the last norm. A model that was
    only pre-trained has the norm before the mean. Frames and pixels are those of the model: its position embedding is
    one sinusoid over all tokens in order, which does not carry over to another size.

    Args:
        weights: a hub name ("MCG-NJU/videomae-base-finetuned-kinetics"), the folder of a downloaded model, or its
            URL.
        name: name for the bank; None derives one.
        architecture: of a model whose weights are loaded afterwards, from the method `architecture`; `weights` is then
            not read.

    Raises:
        InputError: the weights do not exist, cannot be read, or are of another architecture.

    Examples:
        The folder `videomae` holds a tiny model with random weights.

        >>> import torch
        >>> from clep.video.encoders import VideoMAE
        >>> encoder = VideoMAE("videomae")  # or "MCG-NJU/videomae-base-finetuned-kinetics"
        >>> encoder(torch.zeros(2, 4, 3, 16, 16)).shape
        torch.Size([2, 16])
    """

    def __init__(self, weights: str, name: str | None = None, architecture: dict[str, Any] | None = None):
        super().__init__()
        self.model: Any
        self.norm: nn.Module = nn.Identity()
        if architecture is None:
            weights = local_weights(weights)
            mean, std = self._load(weights)
        else:
            mean, std = self._build(**architecture)
        self._finish(weights, mean, std, name or encoder_name(weights, ("MCG-NJU",)))

    def _finish(self, weights: str, mean: Colour, std: Colour, name: str) -> None:
        config = self.model.config
        if config.num_frames % config.tubelet_size:
            raise InputError(f"weights={weights} has {config.num_frames} frames in tubes of {config.tubelet_size}")
        crop_px = square(config.image_size, weights)
        self.clip = ClipSpec(config.num_frames, crop_px, crop_px, mean, std)
        self.dim, self.name = config.hidden_size, name
        freeze(self)

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode normalised clips, one row each.

        Raises:
            InputError: the clips have another number of frames or pixels than the model was trained with.
        """
        check_pixels(pixels, self)
        return self.norm(self.model(pixels).last_hidden_state.mean(1))

    def spatial(
        self, pixels: Float[Tensor, "clips frames 3 height width"]
    ) -> Float[Tensor, "clips dim times rows columns"]:
        """Return the token of each tube, after the same norm as a row."""
        check_pixels(pixels, self)
        config = self.model.config
        tokens = self.norm(self.model(pixels).last_hidden_state)
        side = config.image_size // config.patch_size
        return tokens.unflatten(1, (config.num_frames // config.tubelet_size, side, side)).permute(0, 4, 1, 2, 3)

    def stages(self) -> list[tuple[str, ...]]:
        """Return the embeddings and each block, the last one with the norms after it."""
        blocks = [(f"model.encoder.layer.{block}",) for block in range(len(self.model.encoder.layer))]
        return [("model.embeddings",), *blocks[:-1], (*blocks[-1], "model.layernorm", "norm")]

    def checkpoint_activations(self) -> None:
        """Recompute each block for the gradient."""
        checkpoint_layers(self.model)

    def architecture(self) -> dict[str, Any]:
        """Return the config that builds this model without its weights."""
        own = {
            "model": plain_config(self.model.config),
            "norm_eps": self.norm.eps if isinstance(self.norm, nn.LayerNorm) else None,
            "mean": list(self.clip.mean),
            "std": list(self.clip.std),
        }
        return {
            "_target_": "clep.video.encoders.VideoMAE",
            "weights": self.name,
            "name": self.name,
            "architecture": own,
        }

    def _load(self, weights: str) -> tuple[Colour, Colour]:
        from transformers import VideoMAEForVideoClassification, VideoMAEModel

        location, said = model_config(weights, ("videomae",))
        if "VideoMAEForVideoClassification" in (said.get("architectures") or []):
            classifier = load_model(VideoMAEForVideoClassification, location)
            self.model, self.norm = classifier.videomae, classifier.fc_norm or nn.Identity()
        else:
            self.model = load_model(VideoMAEModel, location, unused="decoder|encoder_to_decoder|mask_token")
        return colours(location, IMAGENET)

    def _build(
        self, model: dict[str, Any], norm_eps: float | None, mean: list[float], std: list[float]
    ) -> tuple[Colour, Colour]:
        from transformers import VideoMAEConfig, VideoMAEModel

        config = VideoMAEConfig(**model)
        self.model = VideoMAEModel(config)
        if norm_eps is not None:
            self.norm = nn.LayerNorm(config.hidden_size, norm_eps)
        return colour(mean), colour(std)
