"""The image side of CLIP and SigLIP, frame by frame."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from clep.errors import InputError
from clep.video.encoder import ClipSpec
from clep.video.encoders.frozen import FrameEncoder, encoder_name, freeze, with_size
from clep.video.encoders.hub import (
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

_CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_SIGLIP_COLOURS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_FRAMES = 4


class ImageText(FrameEncoder):
    """CLIP (arXiv 2103.00020), SigLIP (2303.15343), or SigLIP 2 of fixed resolution (2502.14786).

    A frame's row is its unit-length embedding in the joint space of images and texts, and a clip's row is the mean over
    its frames. Its dot product with a text embedding from `clep.text.SentenceEncoder` of the same model is the mean
    cosine of frames and text. It can be trained, and encode regions; `clep.models.published.PublishedEncoder` makes
    banks with the official pixels.

    Frames are resized and cropped as for the other encoders here; SigLIP's official preprocessing squashes them.

    Args:
        weights: a hub name ("openai/clip-vit-base-patch32"), the folder of a downloaded model, or its URL.
        frames: frames of a window or segment.
        name: name for the bank; None derives one.
        architecture: of a model whose weights are loaded afterwards, from the method `architecture`; `weights` is then
            not read.

    Raises:
        InputError: the weights do not exist, cannot be read, or are of another architecture.

    Examples:
        The folder `clip` holds a tiny model with random weights.

        >>> import torch
        >>> from clep.video.encoders import ImageText
        >>> encoder = ImageText("clip", frames=2)  # or "openai/clip-vit-base-patch32"
        >>> encoder.name, encoder.clip.crop_px
        ('clip-2x16', 16)
        >>> encoder(torch.zeros(3, 2, 3, 16, 16)).shape
        torch.Size([3, 12])
    """

    def __init__(
        self,
        weights: str,
        frames: int = _FRAMES,
        name: str | None = None,
        architecture: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.vision: Any
        self.projection: nn.Module = nn.Identity()
        weights = local_weights(weights) if architecture is None else weights
        mean, std = self._load(weights) if architecture is None else self._build(**architecture)
        self.dim = getattr(self.projection, "out_features", self.vision.config.hidden_size)
        crop_px = square(self.vision.config.image_size, weights)
        self.clip = ClipSpec(frames, crop_px, crop_px, mean, std)
        self.name = name or with_size(
            encoder_name(weights, ("openai", "google")), frames, crop_px, usual=(_FRAMES, crop_px)
        )
        freeze(self)

    def encode_frames(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim"]:
        """Return embeddings of length 1."""
        return normalize(self.projection(self.vision(pixel_values=images).pooler_output), dim=-1)

    def feature_map(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim rows columns"]:
        """Return the token of each patch after the last norm, projected as a whole image is where the model does so."""
        tokens = self.vision(pixel_values=images).last_hidden_state
        if isinstance(self.projection, nn.Linear):  # CLIP: a class token comes first, and only it was normed
            tokens = self.projection(self.vision.post_layernorm(tokens[:, 1:]))
        side = self.vision.config.image_size // self.vision.config.patch_size
        return tokens.unflatten(1, (side, side)).permute(0, 3, 1, 2)

    def stages(self) -> list[tuple[str, ...]]:
        """Return the embeddings and each block, the last one with what follows it."""
        blocks = [(f"vision.encoder.layers.{block}",) for block in range(len(self.vision.encoder.layers))]
        after = ("vision.post_layernorm", "vision.head", "projection")
        return [("vision.embeddings", "vision.pre_layrnorm"), *blocks[:-1], (*blocks[-1], *after)]

    def checkpoint_activations(self) -> None:
        """Recompute each block for the gradient."""
        checkpoint_layers(self.vision)

    def architecture(self) -> dict[str, Any]:
        """Return the config that builds this model without its weights."""
        own = {
            "vision": plain_config(self.vision.config),
            "dim": self.dim if isinstance(self.projection, nn.Linear) else None,
            "mean": list(self.clip.mean),
            "std": list(self.clip.std),
        }
        return {
            "_target_": "clep.video.encoders.ImageText",
            "weights": self.name,
            "frames": self.clip.frames,
            "name": self.name,
            "architecture": own,
        }

    def _load(self, weights: str) -> tuple[Colour, Colour]:
        from transformers import CLIPModel, SiglipModel

        location, said = model_config(weights, ("clip", "siglip"))
        if said["model_type"] == "clip":
            clip = load_model(CLIPModel, location, unused=r".*\.position_ids$")
            self.vision, self.projection = clip.vision_model, clip.visual_projection
            usual_colours = _CLIP_COLOURS
        else:
            self.vision, usual_colours = load_model(SiglipModel, location).vision_model, _SIGLIP_COLOURS
            if not self.vision.use_head:
                raise InputError(f"weights={weights} has no head that pools an image to one embedding")
        return colours(location, usual_colours)

    def _build(
        self, vision: dict[str, Any], dim: int | None, mean: list[float], std: list[float]
    ) -> tuple[Colour, Colour]:
        from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

        if dim is None:
            self.vision = SiglipVisionModel(SiglipVisionConfig(**vision))
        else:
            config = CLIPVisionConfig(**vision)
            self.vision = CLIPVisionModel(config)
            self.projection = nn.Linear(config.hidden_size, dim, bias=False)
        return colour(mean), colour(std)
