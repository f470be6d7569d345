"""The task of action detection: a classifier of regions that sees the minute around them."""

from typing import Any

from clep.data.region_datamodule import RegionDataModule
from clep.errors import InputError
from clep.models import ActionClassifier, load_model, load_weights
from clep.settings import instantiate
from clep.training import ClassifierModule


def action_detection(settings: dict[str, Any], data: RegionDataModule) -> ClassifierModule:
    """Build the module that trains a classifier of regions on a region bank.

    Args:
        settings: of the run, see `clep.settings.run_settings`; `model` is a `clep.models.ActionClassifier`.
        data: whose banks say how many numbers the model takes, and which actions it learns.

    Raises:
        InputError: the model has no part that the data needs, or the weights of `init_from` are of another model.
    """
    optim = instantiate(settings["optim"])
    model = make_classifier(settings["model"], data)
    if settings["init_from"]:
        load_weights(model, load_model(settings["init_from"]).state_dict(), settings["init_from"])
    optimizer, schedule = optim["optimizer"], optim["schedule"]
    return ClassifierModule(model, instantiate(settings["loss"]), optimizer, schedule, ema=settings["ema"])


def make_classifier(config: dict[str, Any], data: RegionDataModule) -> ActionClassifier:
    """Build the model for the banks of `data`, and let the data's clips fit its encoder.

    Raises:
        InputError: the model reads clips and the data has none, or the other way round.
    """
    short_dim, context_dim = data.dims
    operator = {**(config.get("operator") or {})}
    for key, dim in (("in_dim", short_dim), ("context_dim", context_dim)):
        operator[key] = dim if operator.get(key) is None else operator[key]
    if bool(config.get("short")) != (data.clips is not None):
        raise InputError("model.short and data.clips go together: choose short=bank, or short=clips")
    model = ActionClassifier.from_config(
        {
            **config,
            "in_dim": short_dim if config.get("in_dim") is None else config["in_dim"],
            "operator": operator,
            "classes": data.classes,
        }
    )
    if model.short is not None:
        data.fit_to(model.short.encoder)
    model.metadata = data.metadata
    return model
