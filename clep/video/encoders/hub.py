"""Models of transformers from a hub name or a local folder, read as data, with a check that no weight is missing."""

import pickle
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from clep.errors import InputError
from clep.files import open_input, read_json

Colour = tuple[float, float, float]
IMAGENET: tuple[Colour, Colour] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def model_config(weights: str, model_types: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Return the folder or hub name to load from, and the content of its `config.json`.

    Args:
        weights: a hub name or a folder.
        model_types: values of `model_type` that fit.

    Raises:
        InputError: there is no such model on this machine or the hub, or it is of another type.
    """
    if not weights.strip():
        raise InputError("weights is empty; give a hub name or the folder of a downloaded model")
    folder = Path(weights).expanduser()
    location = str(folder) if folder.is_dir() else weights
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} holds no config.json; give the folder of a downloaded transformers model")
        config = read_json(folder / "config.json")
    elif folder.is_file():
        raise InputError(
            f"weights={weights} is a file; give the folder of a downloaded transformers model, or a hub name"
        )
    elif weights[0] in "/.~" or weights.count("/") > 1 or folder.suffix in (".pyth", ".pt", ".pth", ".bin"):
        raise InputError(f"weights={weights}: there is no such file or folder")
    else:
        config = _hub_config(weights)
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in model_types:
        raise InputError(
            f"weights={weights} is a model of type {found!r}; this encoder takes {' or '.join(model_types)}"
        )
    return location, config


def load_model(model_class: Any, location: str, unused: str = "$^") -> Any:
    """Load a model in float32 without running code, and check that its file holds its weights and no others.

    Args:
        model_class: a class of transformers.
        location: folder or hub name.
        unused: regular expression of weights that the file may have beyond the model's, matched from their start.

    Raises:
        InputError: the file is missing, truncated, holds code, or lacks weights, or has more than `unused`.
    """
    try:
        with _quiet():
            model, info = model_class.from_pretrained(location, dtype=torch.float32, output_loading_info=True)
    except Exception as error:
        # Broken files raise OSError, RuntimeError, SafetensorError, UnpicklingError and more, depending on the break.
        raise InputError(f"cannot load weights={location}: {_first_line(error)} {_REMEDY}") from error
    extra = sorted(name for name in info["unexpected_keys"] if not re.match(unused, name))
    refuse_misfit(location, sorted(info["missing_keys"]), extra, [str(item) for item in info["mismatched_keys"]])
    return model


def read_weights(path: str | Path) -> Any:
    """Read a file of `torch.save` or safetensors as data, mapped into memory: an optimizer's state in it costs nothing.

    Raises:
        InputError: the file is missing, truncated, or holds more than data.
    """
    path = Path(path)
    with open_input(path) as file:
        is_zip = file.read(2) == b"PK"  # files of torch before 1.6 cannot be mapped
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        code = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(error))
        unsafe = f"is an unsafe pickle: loading it would run {code[1]}" if code else ""
        reason = unsafe or "holds more than data, or is corrupt"
        raise InputError(f"{path} {reason}; only checkpoints of plain tensors are read") from error
    except Exception as error:
        # torch and safetensors raise OSError, RuntimeError, EOFError, … depending on where a broken file ends.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path} is corrupt or truncated ({reason}); fetch it again") from error


def plain_config(config: Any) -> dict[str, Any]:
    """Return the architecture in a config of transformers as plain values, from which the model can be built."""
    said = config.to_dict()
    return {key: value for key, value in said.items() if key not in _NOT_ARCHITECTURE and not key.startswith("_")}


def checkpoint_layers(model: nn.Module) -> None:
    """Enable activation checkpointing of each layer of a model of transformers, in training mode.

    Random numbers are replayed, so that gradients stay the same.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            layer: Any = module
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            layer.gradient_checkpointing = True


def refuse_misfit(source: str, missing: list[str], extra: list[str], reshaped: list[str]) -> None:
    """Refuse weights that do not fit the model.

    Raises:
        InputError: any list has an entry; the message names the first three of each.
    """
    problems = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for names, what in ((missing, "missing"), (extra, "unexpected"), (reshaped, "of another shape"))
        if names
    ]
    if problems:
        raise InputError(
            f"the weights of {source} belong to another architecture than its config or its first layer: "
            f"{'; '.join(problems)}; fetch the file again, or give the config that belongs to it"
        )


def colours(location: str, default: tuple[Colour, Colour]) -> tuple[Colour, Colour]:
    """Return mean and standard deviation of the colours in [0, 1], from `preprocessor_config.json` where there is one.

    Raises:
        InputError: the file exists but does not hold three numbers each.
    """
    from transformers.utils import cached_file

    try:
        path = cached_file(location, "preprocessor_config.json")
    except OSError:
        return default
    said = read_json(path) if path else {}
    if not isinstance(said, dict) or "image_mean" not in said or "image_std" not in said:
        return default
    mean, std = said["image_mean"], said["image_std"]
    for values in (mean, std):
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
            raise InputError(f"{path}: image_mean and image_std should be three numbers each, not {values}")
    return colour(mean), colour(std)


def colour(values: Sequence[float | int]) -> Colour:
    """Return red, green and blue as a tuple of floats."""
    red, green, blue = map(float, values)
    return red, green, blue


def square(size: Any, weights: str) -> int:
    """Return the side of a square given as one number or as two equal ones.

    Raises:
        InputError: it is not a square.
    """
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1:
        raise InputError(f"weights={weights} takes images of {size}; only squares are supported")
    return int(sides.pop())


_REMEDY = (
    "Give the folder of a downloaded model, unset HF_HUB_OFFLINE where there is a network, or take the encoder "
    "efficientnet_lite0, which needs none."
)


_NOT_ARCHITECTURE = (
    *("transformers_version", "architectures", "model_type", "dtype", "id2label", "label2id", "problem_type"),
    *("return_dict", "output_hidden_states", "output_attentions", "chunk_size_feed_forward", "is_encoder_decoder"),
)


def _hub_config(weights: str) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(weights)
    except Exception as error:
        raise InputError(f"there is no model weights={weights}: {_first_line(error)} {_REMEDY}") from error
    return config


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bar and the report of transformers; what matters in the report is an error here."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0].rstrip('.')}." if lines else f"{type(error).__name__}."
