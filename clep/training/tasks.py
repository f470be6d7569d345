"""What a run trains: each task builds the LightningModule of a run from its settings and its data."""

from typing import Any

from clep.config.build import build_typed
from clep.config.settings import fill_in_dims
from clep.config.targets import ANYTHING, find_targets
from clep.data import MomentDataModule
from clep.data.region_datamodule import RegionDataModule
from clep.data.video_datamodule import LabelledVideoDataModule
from clep.errors import InputError
from clep.models import ActionClassifier, DualEncoder, SavedModel, VideoClassifier, load_model, load_weights
from clep.training.classifier import ClassifierModule
from clep.training.contrastive import ContrastiveModule


def contrastive(settings: dict[str, Any], data: MomentDataModule) -> ContrastiveModule:
    """Build the module that contrasts moments with texts.

    Args:
        settings: of the run, see `clep.config.settings.run_settings`.
        data: its banks set the feature dimensions of the towers.

    Raises:
        InputError: the bank is of another encoder than `video_encoder`, or the weights of `init_from` are of another
            model or were trained on other features.
    """
    optim = {name: build_typed(part) for name, part in settings["optim"].items()}
    return ContrastiveModule(
        make_dual_encoder(settings, data),
        build_typed(settings["loss"]),
        optim["optimizer"],
        optim["schedule"],
        build_typed(settings["positives"]),
        settings["form"],
        ema=settings["ema"],
        chunk_size=settings["chunk_size"],
    )


def action_detection(settings: dict[str, Any], data: RegionDataModule) -> ClassifierModule:
    """Build the module that trains a classifier of regions, with their long-term context.

    Args:
        settings: of the run; `model` is a `clep.models.ActionClassifier`.
        data: its banks set the feature dimensions of the model, its label map the classes.

    Raises:
        InputError: the model lacks a part that the data needs, or the weights of `init_from` are of another model.
    """
    return _classifier_module(settings, make_action_classifier(settings["model"], data))


def finetune_video(settings: dict[str, Any], data: LabelledVideoDataModule) -> ClassifierModule:
    """Build the module that fine-tunes a video encoder and a linear layer, and set the pixel transforms of the data.

    Args:
        settings: of the run; `model` is a `clep.models.VideoClassifier`.
        data: its classes are learned.

    Raises:
        InputError: the encoder cannot be built, or the weights of `init_from` are of another model.
    """
    metadata = {"trained_on": str(data.source.train), "classes_from": str(data.source.classes or "labels")}
    model = VideoClassifier.from_config({**settings["model"], "classes": data.classes, "metadata": metadata}, ANYTHING)
    module = _classifier_module(settings, model)
    data.fit_to(model.encoder.clip)
    return module


def make_dual_encoder(settings: dict[str, Any], data: MomentDataModule) -> DualEncoder:
    """Build the model for the banks of `data`, with its metadata, from the weights of `init_from` if given.

    Raises:
        InputError: see `contrastive`.
    """
    metadata = data.metadata(settings["text_encoder"])
    if "ego4d_videos" not in (
        settings.get("prepare") or {}
    ):  # else the run's own encoder made the bank, from its videos
        check_video_encoder(settings["video_encoder"], metadata["bank_encoder"])
    model = DualEncoder.from_config({**fill_in_dims(settings["model"], *data.dims), "metadata": metadata}, ANYTHING)
    if settings["init_from"]:
        other = load_model(settings["init_from"], _own_parts(settings))
        if not isinstance(other, DualEncoder):
            raise InputError(
                f"init_from={settings['init_from']} holds a {type(other).__name__}, and task=contrastive trains a "
                f"DualEncoder; give a run of a contrastive experiment"
            )
        other.check_bank(metadata["bank_encoder"])
        other.check_sentence_encoder(metadata["sentence_encoder"])
        state = other.state_dict()
        # The bias belongs to the objective, which may be another one now.
        bias = state.pop("logit_bias", model.logit_bias)
        if model.logit_bias is not None:
            state["logit_bias"] = bias.detach()
        load_weights(model, state, settings["init_from"])
    return model


def make_action_classifier(config: dict[str, Any], data: RegionDataModule) -> ActionClassifier:
    """Build the model for the banks of `data`, and set the clip that its encoder reads.

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
        },
        ANYTHING,
    )
    if model.short_term is not None:
        data.fit_to(model.short_term.encoder)
    model.metadata = data.metadata
    return model


def check_video_encoder(wanted: str, of_bank: str) -> None:
    """Refuse a bank of another encoder than the setting `video_encoder`; a bank without a name is accepted.

    Raises:
        InputError: names both.
    """
    if of_bank and of_bank != wanted:
        raise InputError(
            f"data.sources: the bank holds features of {of_bank!r}, and video_encoder={wanted}; set "
            f"video_encoder='{of_bank}' to train on them, or give a bank of {wanted!r}"
        )


def _classifier_module(settings: dict[str, Any], model: SavedModel) -> ClassifierModule:
    if settings["init_from"]:
        load_weights(model, load_model(settings["init_from"], _own_parts(settings)).state_dict(), settings["init_from"])
    optim = {name: build_typed(part) for name, part in settings["optim"].items()}
    return ClassifierModule(
        model, build_typed(settings["loss"]), optim["optimizer"], optim["schedule"], ema=settings["ema"]
    )


def _own_parts(settings: dict[str, Any]) -> list[str]:
    """Return the classes that the user's model names, which the model of `init_from` may name too."""
    return sorted({str(name) for _, name in find_targets(settings["model"])})
