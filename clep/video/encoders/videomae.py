"""VideoMAE: a plain vision transformer over tubes of two frames."""

from jaxtyping import Float
from torch import Tensor, nn

from clep.errors import InputError
from clep.video.encoder import ClipSpec, VideoEncoder
from clep.video.encoders.frozen import check_pixels, encoder_name, freeze
from clep.video.encoders.hub import IMAGENET, colours, load_model, model_config, square


class VideoMAE(VideoEncoder):
    """VideoMAE (Tong et al. 2022, arXiv 2203.12602); a row is the mean over all tokens.

    A fine-tuned model's row is what its classifier sees: the mean, then its last norm. A model that was only
    pre-trained has the norm before the mean. Frames and pixels are those of the model: its positions are one sinusoid
    over all tokens in order, so that another size would give each token the position of another place.

    Args:
        weights: a hub name ("MCG-NJU/videomae-base-finetuned-kinetics"), or the folder of a downloaded model.
        name: for the bank, in place of the derived one.

    Raises:
        InputError: there are no such weights, they cannot be read, or they are of another architecture.
    """

    def __init__(self, weights: str, name: str | None = None):
        super().__init__()
        from transformers import VideoMAEForVideoClassification, VideoMAEModel

        place, said = model_config(weights, ("videomae",))
        self.norm: nn.Module = nn.Identity()
        if "VideoMAEForVideoClassification" in (said.get("architectures") or []):
            classifier = load_model(VideoMAEForVideoClassification, place)
            self.model, self.norm = classifier.videomae, classifier.fc_norm or nn.Identity()
        else:
            self.model = load_model(VideoMAEModel, place, unused="decoder|encoder_to_decoder|mask_token")
        config = self.model.config
        if config.num_frames % config.tubelet_size:
            raise InputError(f"weights={weights} has {config.num_frames} frames in tubes of {config.tubelet_size}")
        crop_px = square(config.image_size, weights)
        mean, std = colours(place, IMAGENET)
        self.clip = ClipSpec(config.num_frames, crop_px, crop_px, mean, std)
        self.dim = config.hidden_size
        self.name = name or encoder_name(weights, ("MCG-NJU",))
        freeze(self)

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode normalised clips, one row each.

        Raises:
            InputError: the clips have another number of frames or pixels than the model was trained with.
        """
        check_pixels(pixels, self)
        return self.norm(self.model(pixels).last_hidden_state.mean(1))
