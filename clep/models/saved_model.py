"""What every model is that a run trains: it can be saved as data, and remembers what its weights depend on."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from clep.errors import InputError
from clep.models.storage import load_folder, load_weights, save_folder

Model = TypeVar("Model", bound="SavedModel")


class SavedModel(nn.Module):
    """A model that is built from a plain dict, and saved as that dict and its weights.

    A subclass defines `from_config`, which sets `config`. Where that dict has no `_target_` the model is a
    `DualEncoder`; every other class keeps its own name there.

    Args:
        metadata: what the weights depend on and cannot tell, `bank_encoder` above all. Plain JSON.
    """

    def __init__(self, metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.metadata: dict[str, Any] = copy.deepcopy(dict(metadata or {}))
        self.config: dict[str, Any] | None = None

    @classmethod
    def from_config(cls: type[Model], config: Mapping[str, Any]) -> Model:
        """Build a model from a plain dict, its `metadata` among it, and remember the dict.

        Raises:
            InputError: an unknown target or argument, or values that JSON cannot hold; the message names the key.
        """
        raise NotImplementedError(f"{cls.__name__} must define from_config(config)")

    def check_bank(self, encoder_name: str) -> None:
        """Refuse a bank that another encoder made than the one of the bank the model was trained on.

        Nothing is refused where either name is unknown (empty).

        Raises:
            InputError: the encoders differ; both are named.
        """
        trained_on = self.metadata.get("bank_encoder")
        if trained_on and encoder_name and trained_on != encoder_name:
            raise InputError(
                f"the model was trained on features of {trained_on!r}, and this bank holds features of "
                f"{encoder_name!r}; extract features with {trained_on!r}, or train a model on this bank"
            )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, each whole or not at all, and told apart if of two saves.

        Raises:
            InputError: the model was not made by `from_config`, metadata is not plain JSON, or the disk is full.
        """
        if self.config is None:
            raise InputError(
                "this model was built from modules, so a folder could not say how to build it again; make it with "
                "from_config, whose parts are dicts with _target_, and load_state_dict"
            )
        save_folder(folder, {"model": self.config, "metadata": plain_config(self.metadata)}, self.state_dict())

    @classmethod
    def from_pretrained(cls: type[Model], folder: str | Path) -> Model:
        """Load a model that `save_pretrained` wrote, on the CPU and in evaluation mode.

        Raises:
            InputError: a file is missing, truncated or of another save; the config names a class outside the
                allow-list; or the weights belong to another architecture, with every tensor that differs.
        """
        content, state = load_folder(folder)
        try:
            model = cls.from_config({**content["model"], "metadata": content.get("metadata") or {}})
        except InputError as error:
            raise InputError(f"{Path(folder) / 'config.json'}: {error}") from error
        load_weights(model, state, f"{folder}")
        return model.eval()


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a config that holds nothing but what JSON can.

    Raises:
        InputError: it holds something else.
    """
    try:
        return json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the model's config and metadata must be plain values that JSON can hold ({error}); "
            f"turn an OmegaConf config into a dict with OmegaConf.to_container(config, resolve=True)"
        ) from error
