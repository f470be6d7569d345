"""A model on disk: `config.json`, which says how to build it, and `model.safetensors`. Data, never code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from clep.errors import InputError
from clep.files import atomic_path, read_json, write_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT, VERSION = "clep-model", 1


def save_folder(folder: str | Path, content: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Write weights, then config. Both carry a digest of the config, which shows a save that was cut in between.

    Raises:
        InputError: the folder cannot be written to.
    """
    folder = Path(folder)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(tensors, {"format": "pt", "clep": FORMAT, "config_digest": digest}))
    write_json(folder / CONFIG, {"format": FORMAT, "version": VERSION, "config_digest": digest, **content})


def load_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `save_folder` wrote.

    Raises:
        InputError: a file is missing, truncated, of another format or version, or of another save than its neighbour.
    """
    folder = Path(folder)
    content = read_json(folder / CONFIG)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("model"), dict):
        raise InputError(f"{folder / CONFIG} does not describe a clep model (format={FORMAT!r} and a dict 'model')")
    if content.get("version") != VERSION:
        raise InputError(
            f"{folder / CONFIG} has version {content.get('version')}, and this clep reads version {VERSION}; "
            f"use the release of clep that wrote it"
        )
    path = folder / WEIGHTS
    if not path.exists():
        raise InputError(f"{path} does not exist; the folder needs {WEIGHTS} and {CONFIG}")
    try:
        with safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get("config_digest")
            state = {name: file.get_tensor(name) for name in tuple(file.keys())}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is truncated or not a safetensors file ({error}); fetch or save it again") from error
    if digest and content.get("config_digest") and digest != content["config_digest"]:
        raise InputError(
            f"{path} and {CONFIG} beside it come from two different saves, the second was interrupted; save again"
        )
    return content, state


def load_weights(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load all weights, exactly.

    Raises:
        InputError: any tensor is missing, unexpected or of another shape. One message lists all of them.
    """
    expected = model.state_dict()
    problems = [
        ("the model needs, the file lacks", sorted(expected.keys() - state.keys())),
        ("the file has, the model lacks", sorted(state.keys() - expected.keys())),
        (
            "of another shape",
            [
                f"{name} (file {list(state[name].shape)}, model {list(expected[name].shape)})"
                for name in sorted(expected.keys() & state.keys())
                if state[name].shape != expected[name].shape
            ],
        ),
    ]
    lines = [f"  {title}: {', '.join(names)}" for title, names in problems if names]
    if lines:
        raise InputError(
            "\n".join([f"the weights of {source} belong to another architecture than its config says:", *lines])
            + "\nGive the model config that these weights were trained with (the run's config, or the config.json "
            "saved beside them)."
        )
    with torch.no_grad():
        model.load_state_dict(state)
