"""Options that make an encoder faster: `torch.compile`, channels-last weights, pixels prepared on its device."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from clep.compute.compiled import compile_or_keep
from clep.errors import InputError
from clep.video.encoder import VideoEncoder

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def accelerate(
    encoder: VideoEncoder, compile: bool = False, channels_last: bool = False, transform_on_device: bool = False
) -> None:
    """Set the options of an encoder, in place. Rows differ by rounding from those without an option.

    Args:
        encoder: the encoder, on its device.
        compile: compile `forward` and `spatial` by `torch.compile`, at their first call; where that fails they run
            without it, with one warning.
        channels_last: hold the weights of convolutions with the channels last, for which cuDNN and oneDNN have faster
            kernels.
        transform_on_device: of an encoder with `own_transform`, see `VideoEncoder`.

    Raises:
        InputError: the encoder has nothing that an option could make faster.
    """
    if channels_last:
        weights = [weight for weight in encoder.parameters() if weight.dim() in _FORMATS]
        if not weights:
            raise InputError(f"channels_last=true: {encoder.name} has no convolution; leave the option out")
        for weight in weights:
            weight.data = weight.data.contiguous(memory_format=_FORMATS[weight.dim()])
    if transform_on_device and not encoder.own_transform:
        raise InputError(
            f"transform_on_device=true is for published models with pixels of their own; frames of {encoder.name} are "
            f"resized while they are decoded and normalised on the device anyway: leave the option out"
        )
    encoder.transform_on_device = transform_on_device
    if compile:
        for name in ("forward", "spatial"):
            setattr(encoder, name, _Compiled(getattr(encoder, name), encoder.name))


class _Compiled:
    """A method of an encoder that is compiled at its first call; other threads wait for that."""

    def __init__(self, method: Callable[[Tensor], Tensor], name: str) -> None:
        self._method, self._name = method, name
        self._chosen: Callable[[Tensor], Tensor] | None = None
        self._lock = threading.Lock()

    def __call__(self, pixels: Tensor) -> Any:
        with self._lock:
            if self._chosen is None:
                effect = f"{self._name} encodes without it"
                self._chosen = compile_or_keep(self._method, lambda compiled: compiled(pixels), effect)
        return self._chosen(pixels)
