"""The task of supervised fine-tuning: a video encoder that learns the classes of labelled videos."""

from typing import Any

from clep.data.video_datamodule import LabelledVideoDataModule
from clep.models import VideoClassifier, load_model, load_weights
from clep.settings import instantiate
from clep.training import ClassifierModule


def finetune_video(settings: dict[str, Any], data: LabelledVideoDataModule) -> ClassifierModule:
    """Build the module that trains an encoder and a linear layer over its row, and tell the data which pixels it wants.

    Args:
        settings: of the run, see `clep.settings.run_settings`; `model` is a `clep.models.VideoClassifier`.
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
