"""What a run trains: each task builds the LightningModule of a run from its settings and its data."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

from clep.config.build import build_typed
from clep.config.requirements import Need
from clep.config.targets import ANYTHING, TARGET, find_targets
from clep.data import MomentDataModule
from clep.data.region_datamodule import RegionDataModule
from clep.data.video_datamodule import LabelledVideoDataModule
from clep.errors import InputError
from clep.models import ActionClassifier, DualEncoder, SavedModel, VideoClassifier, load_model, load_weights
from clep.models.saving import model_class
from clep.training.base import BaseModule
from clep.training.classifier import ClassifierModule
from clep.training.contrastive import ContrastiveModule
from clep.training.settings import fill_in_dims

Model = TypeVar("Model", bound=SavedModel)


class Task(ABC):
    """Base class: builds the LightningModule of a run; chosen by `task`. Subclasses define `build`.

    Examples:
        >>> from clep.training import Task
        >>> class MyTask(Task):
        ...     def build(self, settings, data):
        ...         ...  # returns a clep.training.BaseModule
        >>> MyTask.requires({})
        {}
    """

    loss_arguments: tuple[str, ...] | None = None
    """What the loss is called with, for a check before anything starts; None for no check."""
    loss_examples = "another loss"
    """Losses that can be called so, for the message of that check."""

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this task needs, by key, as values or `Need`s."""
        return {}

    @abstractmethod
    def build(self, settings: dict[str, Any], data: Any) -> BaseModule:
        """Return the module that is trained.

        Args:
            settings: of the run, see `clep.training.settings.run_settings`.
            data: the run's DataModule, before its `setup`.

        Raises:
            InputError: settings, data and the weights of `init_from` do not belong together.
        """


class Contrastive(Task):
    """Contrasts moments with texts; `model` is a `clep.models.DualEncoder`, `loss` one of `clep.losses`."""

    loss_arguments = ("video", "text", "scale", "positives", "bias")
    loss_examples = "an objective of clep.losses, e.g. loss=clip"

    def build(self, settings: dict[str, Any], data: MomentDataModule) -> ContrastiveModule:
        """Return the module; the feature dimensions of the towers are those of the banks of `data`.

        Raises:
            InputError: the bank is of another encoder than `video_encoder`, or the weights of `init_from` are of
                another model or were trained on other features.
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


class _Classification(Task):
    loss_arguments = ("logits", "target")
    loss_examples = "loss=cross_entropy or loss=multi_label"

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that classification needs: no chunks."""
        return {
            "chunk_size": Need(
                None,
                "chunks are for contrastive losses",
                "lower data.batch_size and raise trainer.accumulate_grad_batches, which other losses allow",
            )
        }


class ActionDetection(_Classification):
    """Trains a classifier of regions with their long-term context; `model` is a `clep.models.ActionClassifier`."""

    def build(self, settings: dict[str, Any], data: RegionDataModule) -> ClassifierModule:
        """Return the module; the banks of `data` set the model's dimensions, its label map the classes.

        Raises:
            InputError: the model lacks a part that the data needs, or the weights of `init_from` are of another model.
        """
        return _classifier_module(settings, make_action_classifier(settings["model"], data))


class FinetuneVideo(_Classification):
    """Fine-tunes a video encoder and a linear layer; `model` is a `clep.models.VideoClassifier`."""

    def build(self, settings: dict[str, Any], data: LabelledVideoDataModule) -> ClassifierModule:
        """Return the module, and set the pixel transforms of `data`, whose classes are learned.

        Raises:
            InputError: the encoder cannot be built, or the weights of `init_from` are of another model.
        """
        metadata = {"trained_on": str(data.source.train), "classes_from": str(data.source.classes or "labels")}
        config = {**settings["model"], "classes": data.classes, "metadata": metadata}
        model = _built(config, VideoClassifier)
        module = _classifier_module(settings, model)
        data.fit_to(model.encoder.clip)
        return module


def make_dual_encoder(settings: dict[str, Any], data: MomentDataModule) -> DualEncoder:
    """Build the model for the banks of `data`, with its metadata, from the weights of `init_from` if given.

    Raises:
        InputError: see `Contrastive.build`.
    """
    metadata = data.metadata(settings["text_encoder"])
    check_video_encoder(settings["video_encoder"], metadata["bank_encoder"])
    model = _built({**fill_in_dims(settings["model"], *data.dims), "metadata": metadata}, DualEncoder)
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
    in_dim = short_dim if config.get("in_dim") is None else config["in_dim"]
    model = _built({**config, "in_dim": in_dim, "operator": operator, "classes": data.classes}, ActionClassifier)
    if model.short_term is not None:
        data.fit_to(model.short_term.encoder)
    model.metadata = data.metadata
    return model


def check_video_encoder(wanted: str | None, of_bank: str) -> None:
    """Refuse a bank of another encoder than the setting `video_encoder`.

    A bank without a name is accepted; with `video_encoder=null` any bank is.

    Raises:
        InputError: names both.
    """
    if wanted is not None and of_bank and of_bank != wanted:
        raise InputError(
            f"data.sources: the bank holds features of {of_bank!r}, and video_encoder={wanted}; set "
            f"video_encoder='{of_bank}' to train on them, or give a bank of {wanted!r}"
        )


def _built(config: dict[str, Any], kind: type[Model]) -> Model:
    """Build a model that the user typed: `kind`, or a subclass of it."""
    found = model_class(config, ANYTHING) if TARGET in config else kind
    if not issubclass(found, kind):
        raise InputError(f"model: {found.__name__} is not a {kind.__name__}, which this task trains; subclass it")
    return found.from_config(config, ANYTHING)


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
