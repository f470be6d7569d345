"""The task of action detection: a classifier of regions that sees the minute around them."""

from typing import Any

from clep.config.settings import fill_in_dims, instantiate
from clep.data import MomentDataModule
from clep.data.region_datamodule import RegionDataModule
from clep.data.video_datamodule import LabelledVideoDataModule
from clep.errors import InputError
from clep.models import ActionClassifier, DualEncoder, VideoClassifier, load_model, load_weights
from clep.pretrained import load_encoder
from clep.training import ClassifierModule, ContrastiveModule


def action_detection(settings: dict[str, Any], data: RegionDataModule) -> ClassifierModule:
    """Build the module that trains a classifier of regions on a region bank.

    Args:
        settings: of the run, see `clep.config.settings.run_settings`; `model` is a `clep.models.ActionClassifier`.
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
    if bool(config.get("short_term")) != (data.clips is not None):
        raise InputError("model.short_term and data.clips go together: choose short_term=bank, or short_term=clips")
    model = ActionClassifier.from_config(
        {
            **config,
            "in_dim": short_dim if config.get("in_dim") is None else config["in_dim"],
            "operator": operator,
            "classes": data.classes,
        }
    )
    if model.short_term is not None:
        data.fit_to(model.short_term.encoder)
    model.metadata = data.metadata
    return model


def contrastive(settings: dict[str, Any], data: MomentDataModule) -> ContrastiveModule:
    """Build the module that contrasts moments with texts.

    Args:
        settings: of the run, see `clep.config.settings.run_settings`.
        data: whose banks say how many numbers the towers take.

    Raises:
        InputError: the weights of `init_from` are of another model, or were trained on other features.
    """
    optim = instantiate(settings["optim"])
    return ContrastiveModule(
        make_model(settings, data),
        instantiate(settings["loss"]),
        optim["optimizer"],
        optim["schedule"],
        instantiate(settings["positives"]),
        settings["form"],
        ema=settings["ema"],
        chunk_size=settings["chunk_size"],
    )


def make_model(settings: dict[str, Any], data: MomentDataModule) -> DualEncoder:
    """Build the model for the banks of `data`, from the weights of `init_from` if given, with what it must remember."""
    metadata = data.metadata(settings["text_encoder"])
    model = DualEncoder.from_config({**fill_in_dims(settings["model"], *data.dims), "metadata": metadata})
    if settings["init_from"]:
        other = load_encoder(settings["init_from"])
        other.check_bank(metadata["bank_encoder"])
        other.check_sentence_encoder(metadata["sentence_encoder"])
        state = other.state_dict()
        # The bias belongs to the objective, which may be another one now.
        bias = state.pop("logit_bias", model.logit_bias)
        if model.logit_bias is not None:
            state["logit_bias"] = bias.detach()
        load_weights(model, state, settings["init_from"])
    return model


def finetune_video(settings: dict[str, Any], data: LabelledVideoDataModule) -> ClassifierModule:
    """Build the module that trains an encoder and a linear layer over its row, and tell the data which pixels it wants.

    Args:
        settings: of the run, see `clep.config.settings.run_settings`; `model` is a `clep.models.VideoClassifier`.
        data: whose classes are learned.

    Raises:
        InputError: the encoder cannot be built, or the weights of `init_from` are of another model.
    """
    optim = instantiate(settings["optim"])
    metadata = {"trained_on": str(data.source.train), "classes_from": str(data.source.classes or "labels")}
    model = VideoClassifier.from_config({**settings["model"], "classes": data.classes, "metadata": metadata})
    if settings["init_from"]:
        load_weights(model, load_model(settings["init_from"]).state_dict(), settings["init_from"])
    data.fit_to(model.encoder.clip)
    optimizer, schedule = optim["optimizer"], optim["schedule"]
    return ClassifierModule(model, instantiate(settings["loss"]), optimizer, schedule, ema=settings["ema"])
