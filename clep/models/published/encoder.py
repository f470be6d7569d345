"""A published dual encoder as the video encoder that makes feature banks."""

from typing import Any, Literal

from jaxtyping import Float, UInt8
from torch import Tensor

from clep.models.published.loading import load_published
from clep.models.published.model import FrameModel
from clep.models.published.pixels import transform
from clep.video.encoder import ClipSpec, VideoEncoder
from clep.weights import local_weights


class PublishedEncoder(VideoEncoder):
    """The video side of a published model: a row is a clip's embedding, with the official frames and pixels.

    Rows of `output="joint"` lie in the space of the model's texts; they are projected and *not* of unit length, so that
    a bank serves both cosine and raw dot product. Of models that embed frames one by one (PE, SigLIP 2, CLIP) they are
    the mean of the frames' unit embeddings. The model's texts are embedded by `text_encoder=KIND:WEIGHTS`.

    Args:
        kind: one of `clep.models.published.KINDS`.
        weights: checkpoint file, the folder that the job convert_weights wrote, or its URL; see `load_published`.
        output: "joint", or "features" for the rows before the projection.
        frames: frames of a clip; None: as many as the model was trained with.
        sizes: JSON file with the sizes that no checkpoint holds; None: those beside the weights or of the releases.
        name: name for the bank; None: kind and digest of the weights, with "-features" and the number of frames where
            it is another one.

    Raises:
        InputError: see `load_published`.

    Examples:
        >>> import numpy as np
        >>> from clep.models.published import PublishedEncoder
        >>> from clep.video import DenseWindows, encode_video
        >>> encoder = PublishedEncoder("lavila", "lavila/tsf.pt")
        >>> rows = encode_video("kitchen.mp4", encoder, DenseWindows(window=20, stride=10, rate=10))
        >>> np.concatenate(list(rows)).shape
        (3, 24)
    """

    own_transform = True

    def __init__(
        self,
        kind: str,
        weights: str,
        output: Literal["joint", "features"] = "joint",
        frames: int | None = None,
        sizes: str | dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.model = load_published(kind, local_weights(weights), sizes, frames)
        clip = self.model.clip
        self.output = output
        self.clip = ClipSpec(
            clip.frames, clip.crop_px, clip.resize_px or clip.crop_px, clip.mean, clip.std, clip.frame_rule
        )
        self.frame_wise = isinstance(self.model, FrameModel)
        self.dim = self.model.dim if output == "joint" else self.model.feature_dim
        features = "-features" if output == "features" else ""
        other_frames = "" if clip.frames == self.model.usual_frames else f"-{clip.frames}f"
        self.name = name or f"{self.model.name}{features}{other_frames}"
        # The text side stays in the file.
        for side in ("textual", "text_model", "txt_proj", "text_projection"):
            if hasattr(self.model, side):
                setattr(self.model, side, None)
        if self.frame_wise and hasattr(self.model, "model"):
            self.model.model.text_model = None  # type: ignore[union-attr]

    def transform(self, frame: UInt8[Tensor, "3 height width"], crops: str) -> Float[Tensor, "crops 3 crop_px crop_px"]:
        """Resize, crop and normalise a frame as the official code does."""
        return transform(frame, self.model.clip, crops)

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode clips that `transform` made; a model of single frames takes any number of frames."""
        if self.output == "features":
            return self.model.video_features(pixels)
        return self.model.encode_video(pixels, normalize=self.frame_wise)
