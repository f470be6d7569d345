"""Load a trained model, whatever it is, from a run, a folder or a checkpoint: data, never code."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from clep.build import TARGET
from clep.errors import InputError
from clep.models.saved_model import SavedModel
from clep.models.storage import load_folder, load_weights


def load_model(path: str | Path) -> SavedModel:
    """Load the model of a run, whatever was trained, on the CPU and in evaluation mode.

    Args:
        path: a run's folder, a folder that `save_pretrained` wrote, or a checkpoint.

    Raises:
        InputError: none of these, or its files are damaged or ask for classes outside the allow-list.
    """
    path = Path(path)
    if path.is_file():
        checkpoint = read_checkpoint(path)
        described, state = checkpoint.get("clep"), checkpoint.get("state_dict")
        config = described.get("model") if isinstance(described, dict) else None
        if not isinstance(described, dict) or not isinstance(config, dict) or not isinstance(state, dict):
            raise InputError(f"{path} is not a checkpoint of clep: it does not describe its model")
        try:
            model = model_class(config).from_config({**config, "metadata": described.get("metadata") or {}})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        prefix = "model."
        weights = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        load_weights(model, weights, str(path))
        return model.eval()
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            content, _ = load_folder(folder)
            return model_class(content["model"]).from_pretrained(folder)
    left = ", ".join(map(str, sorted(path.glob("checkpoints/*.ckpt"))))
    raise InputError(
        f"{path} holds no trained model: neither config.json nor model/config.json is there, and it is no .ckpt"
        + (f". Its run did not end, but left {left}" if left else "")
    )


def model_class(config: Mapping[str, Any]) -> type[SavedModel]:
    """Return the class of a saved model by the name in its config, among those of `clep.models`; DualEncoder if none.

    Raises:
        InputError: there is no such model.
    """
    name = str(config.get(TARGET, "clep.models.DualEncoder"))
    found = getattr(import_module("clep.models"), name.rpartition(".")[2], None)
    if not name.startswith("clep.models.") or not (isinstance(found, type) and issubclass(found, SavedModel)):
        raise InputError(f"model.{TARGET}={name!r} is not a model of clep.models")
    return found


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a Lightning checkpoint without running any code in it.

    Raises:
        InputError: it is missing, truncated, or holds more than plain data.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} cannot be read as a checkpoint of plain data ({reason}); it may be truncated, or of other code"
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} is not a checkpoint: it holds a {type(checkpoint).__name__}, not a dict")
    return checkpoint
