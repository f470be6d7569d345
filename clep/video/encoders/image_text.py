"""The image side of CLIP and SigLIP, frame by frame."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from clep.errors import InputError
from clep.video.encoder import ClipSpec
from clep.video.encoders.frozen import FrameEncoder, encoder_name, freeze, with_size
from clep.video.encoders.hub import colours, load_model, model_config, square

_CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_SIGLIP_COLOURS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_FRAMES = 4


class ImageText(FrameEncoder):
    """CLIP (arXiv 2103.00020), SigLIP (2303.15343), or SigLIP 2 of fixed resolution (2502.14786).

    A frame's row is its embedding in the space that images and texts share, of length 1, and a clip's row is their mean
    over its frames. So each frame counts alike, and the product of a clip's row with a text's embedding from
    `clep.text.SentenceEncoder` of the same model is the mean of the cosines of its frames with that text.

    The whole frame is not squeezed into a square, as SigLIP's own preprocessing does: crops are cut out of it, as for
    all encoders here.

    Args:
        weights: a hub name ("openai/clip-vit-base-patch32"), or the folder of a downloaded model.
        frames: of a window or segment that are looked at.
        name: for the bank, in place of the derived one.

    Raises:
        InputError: there are no such weights, they cannot be read, or they are of another architecture.
    """

    def __init__(self, weights: str, frames: int = _FRAMES, name: str | None = None):
        super().__init__()
        from transformers import CLIPModel, SiglipModel

        place, said = model_config(weights, ("clip", "siglip"))
        self.projection: nn.Module = nn.Identity()
        if said["model_type"] == "clip":
            clip = load_model(CLIPModel, place, unused=r".*\.position_ids$")
            self.vision, self.projection = clip.vision_model, clip.visual_projection
            self.dim, usual_colours = clip.visual_projection.out_features, _CLIP_COLOURS
        else:
            self.vision, usual_colours = load_model(SiglipModel, place).vision_model, _SIGLIP_COLOURS
            self.dim = self.vision.config.hidden_size
            if not self.vision.use_head:
                raise InputError(f"weights={weights} has no head that makes one embedding of an image")
        crop_px = square(self.vision.config.image_size, weights)
        mean, std = colours(place, usual_colours)
        self.clip = ClipSpec(frames, crop_px, crop_px, mean, std)
        self.name = name or with_size(
            encoder_name(weights, ("openai", "google")), frames, crop_px, usual=(_FRAMES, crop_px)
        )
        freeze(self)

    def encode_frames(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim"]:
        """Return embeddings of length 1."""
        return normalize(self.projection(self.vision(pixel_values=images).pooler_output), dim=-1)
