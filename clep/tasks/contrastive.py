"""The task of pre-training: a `DualEncoder` that learns which texts belong to which moments."""

from typing import Any

from clep.data import MomentDataModule
from clep.models import DualEncoder, load_weights
from clep.pretrained import load_encoder
from clep.settings import instantiate, with_dims
from clep.training import ContrastiveModule


def contrastive(settings: dict[str, Any], data: MomentDataModule) -> ContrastiveModule:
    """Build the module that contrasts moments with texts.

    Args:
        settings: of the run, see `clep.settings.run_settings`.
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
    model = DualEncoder.from_config({**with_dims(settings["model"], *data.dims), "metadata": metadata})
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
