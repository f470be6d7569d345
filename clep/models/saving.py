"""Saved models: a folder with `config.json`, from which the model is built, and `model.safetensors`; no pickles."""

import copy
import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from clep.checksums import check_digest, digest, warn_unverified
from clep.config.check import check_call
from clep.config.targets import REGISTERED, REGISTERED_ONLY, TARGET, Targets, allowed, find_target
from clep.errors import InputError
from clep.files import atomic_path, check_input, read_json, write_json
from clep.models.checkpoint_file import read_checkpoint

log = logging.getLogger(__name__)

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT, VERSION = "clep-model", 1


def save_folder(folder: str | Path, content: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Write the weights, then the config, each atomically and with a checksum.

    The weights file also stores the digest of the config, so that a mismatched pair is detected.

    Raises:
        InputError: the folder is not writable.
    """
    folder = Path(folder)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    config_digest = _config_digest(content)
    header = {
        "format": "pt",
        "clep": FORMAT,
        "config_digest": config_digest,
        "weights_digest": _weights_digest(tensors),
    }
    with atomic_path(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save(tensors, header))
    write_json(folder / CONFIG, {"format": FORMAT, "version": VERSION, "config_digest": config_digest, **content})


def load_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the config and the weights that `save_folder` wrote.

    Raises:
        InputError: a file is missing, truncated, damaged, or of another format or version; or the two files are from
            different saves.
    """
    folder = Path(folder)
    content = read_json(folder / CONFIG)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("model"), dict):
        raise InputError(
            f"{folder / CONFIG} does not describe a clep model (format={FORMAT!r} and a dict 'model'); give the folder "
            f"of a saved model"
        )
    if content.get("version") != VERSION:
        raise InputError(
            f"{folder / CONFIG} has version {content.get('version')}, but this clep reads version {VERSION}; use the "
            f"release of clep that wrote it"
        )
    header, state = _read_weights(folder / WEIGHTS)
    stored = content.get("config_digest")
    if stored and header.get("config_digest") and header["config_digest"] != stored:
        raise InputError(
            f"{folder / WEIGHTS} and {CONFIG} are from two different saves (the second was interrupted); save the "
            f"model again"
        )
    _check_config(folder / CONFIG, content)
    if "weights_digest" in header:
        check_digest(folder / WEIGHTS, "a tensor", header["weights_digest"], _weights_digest(state), "save it again")
    else:
        warn_unverified(folder / WEIGHTS, "load and save the model again to add them")
    return content, state


def verify_folder(folder: str | Path) -> bool:
    """Compare a saved model with its digests; returns False if a digest is missing.

    Raises:
        InputError: as for `load_folder`.
    """
    content, _ = load_folder(folder)
    header, _ = _read_weights(Path(folder) / WEIGHTS)
    return "config_digest" in content and "weights_digest" in header


def _read_weights(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the header and the tensors of a safetensors file.

    Raises:
        InputError: the file is missing, truncated, or of another format.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder with {WEIGHTS} and {CONFIG}")
    check_input(path)
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in tuple(file.keys())}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is truncated or not a safetensors file ({error}); fetch or save it again") from error


def _check_config(path: Path, content: Mapping[str, Any]) -> None:
    """Verify the digest of a config; without `config_digest`, for configs edited by hand, only warn.

    Raises:
        InputError: the digests differ, or a key is unknown, such as a damaged name.
    """
    described = {key: value for key, value in content.items() if key not in ("format", "version", "config_digest")}
    unknown = described.keys() - {"model", "metadata"}
    if unknown:
        raise InputError(f"{path}: unknown key {sorted(unknown)[0]!r}; save the model again")
    if "config_digest" not in content:
        warn_unverified(path, "load and save the model again to add them")
        return
    remedy = "save the model again; if you edited the file on purpose, remove the line config_digest"
    check_digest(path, "the config", content["config_digest"], _config_digest(described), remedy)


def _config_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _weights_digest(tensors: Mapping[str, Tensor]) -> str:
    return digest(*(part for name in sorted(tensors) for part in (name, tensors[name])))


def load_weights(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load all weights of a model.

    Raises:
        InputError: a tensor is missing, unexpected or of another shape; the message lists all such tensors.
    """
    expected = model.state_dict()
    problems = [
        ("missing in the file", sorted(expected.keys() - state.keys())),
        ("not in the model", sorted(state.keys() - expected.keys())),
        (
            "different shape",
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
            "\n".join([f"the weights of {source} do not fit the architecture of the config:", *lines])
            + "\nUse the model config that these weights were trained with (the run's config, or the config.json "
            "beside them)."
        )
    with torch.no_grad():
        model.load_state_dict(state)


Model = TypeVar("Model", bound="SavedModel")


class SavedModel(nn.Module):
    """Base class of models that are built from a config dict, and saved as this dict and their weights.

    A subclass defines `from_config`, which sets `config` with its name under `_target_`. A config without `_target_` is
    a `DualEncoder`.

    Args:
        metadata: what the weights depend on, such as `bank_encoder`; JSON values.

    Examples:
        >>> from clep.models import DualEncoder, load_model
        >>> head = {"_target_": "clep.models.ProjectionHead", "out_dim": 4}
        >>> model = DualEncoder.from_config({"video": {**head, "in_dim": 12}, "text": {**head, "in_dim": 8}})
        >>> model.metadata["bank_encoder"] = "omnivore"
        >>> model.save_pretrained("saved")
        >>> load_model("saved").metadata
        {'bank_encoder': 'omnivore'}
    """

    def __init__(self, metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.metadata: dict[str, Any] = copy.deepcopy(dict(metadata or {}))
        self.config: dict[str, Any] | None = None

    @classmethod
    def from_config(cls: type[Model], config: Mapping[str, Any], targets: Targets = REGISTERED_ONLY) -> Model:
        """Build a model from a dict, which is kept for saving.

        Args:
            config: the constructor's arguments, including `metadata`.
            targets: the classes that its parts may name.

        Raises:
            InputError: a target outside `targets`, an unknown target or argument, or values that JSON cannot hold; the
                message names the key.
        """
        raise NotImplementedError(f"{cls.__name__} must define from_config(config)")

    def check_bank(self, encoder_name: str, dim: int | None = None, rows_per_second: float | None = None) -> None:
        """Check that a bank has features like those of training; what is unknown (empty or None) passes.

        Another rate of rows is logged as a warning, since a window of the same seconds then has another number of rows.

        Args:
            encoder_name: encoder of the bank.
            dim: feature dimension of the bank.
            rows_per_second: of the bank.

        Raises:
            InputError: the encoders or dimensions differ; the message names both.
        """
        trained_on = self.metadata.get("bank_encoder")
        if trained_on and encoder_name and trained_on != encoder_name:
            raise InputError(
                f"the model was trained on features of {trained_on!r}, but this bank holds features of "
                f"{encoder_name!r}; extract features with {trained_on!r}, or train a model on this bank"
            )
        trained_dim = self.metadata.get("bank_dim")
        if trained_dim and dim and trained_dim != dim:
            raise InputError(
                f"the model was trained on features of dimension {trained_dim}, but this bank has dimension {dim}; "
                f"give a bank of the same encoder, or train a model on this bank"
            )
        trained_rate = self.metadata.get("bank_rows_per_second")
        if trained_rate and rows_per_second and not math.isclose(trained_rate, rows_per_second, rel_tol=0.01):
            log.warning(
                "the model was trained on %g rows per second, but this bank has %g: correct its rate if it is wrong, "
                "or expect lower scores",
                trained_rate,
                rows_per_second,
            )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, each atomically; checksums detect damage and a mismatched pair.

        Raises:
            InputError: the model was not built by `from_config`, metadata is not JSON, or the disk is full.
        """
        if self.config is None:
            raise InputError(
                "this model was built from modules and has no config to save; build it with from_config, with parts "
                "as dicts with _target_, then call load_state_dict"
            )
        save_folder(folder, {"model": self.config, "metadata": plain_config(self.metadata)}, self.state_dict())

    @classmethod
    def from_pretrained(cls: type[Model], folder: str | Path, allow: str | Sequence[str] = ()) -> Model:
        """Load a model that `save_pretrained` wrote, on the CPU and in evaluation mode.

        Args:
            folder: folder with `config.json` and `model.safetensors`.
            allow: modules or classes that the config may name besides the registered classes of clep, e.g. `["mine."]`.

        Raises:
            InputError: a file is missing, truncated or from another save; the config names a class that is neither
                registered nor allowed; or the weights do not fit the architecture.
        """
        content, state = load_folder(folder)
        model = _described_model(lambda _: cls, content, allowed(allow), str(Path(folder) / CONFIG))
        load_weights(model, state, f"{folder}")
        return model.eval()


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a config with JSON values only.

    Raises:
        InputError: it holds other values.
    """
    try:
        return json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the model's config and metadata must be JSON values ({error}); convert an OmegaConf config with "
            f"OmegaConf.to_container(config, resolve=True)"
        ) from error


def load_model(path: str | Path, allow: str | Sequence[str] = ()) -> SavedModel:
    """Load the model of a run, of any class, on the CPU and in evaluation mode.

    Args:
        path: a run's folder, a folder that `save_pretrained` wrote, or a checkpoint.
        allow: modules or classes that its config may name besides the registered classes of clep, e.g. `["mine."]`.

    Raises:
        InputError: `path` is none of these, its files are damaged, or they name classes that are neither registered nor
            allowed.
    """
    path = Path(path)
    if path.is_file():
        checkpoint = read_checkpoint(path)
        described, state = checkpoint.get("clep"), checkpoint.get("state_dict")
        config = described.get("model") if isinstance(described, dict) else None
        if not isinstance(described, dict) or not isinstance(config, dict) or not isinstance(state, dict):
            raise InputError(f"{path} is not a checkpoint of clep: it lacks the model's config; give a .ckpt of a run")
        targets = allowed(allow)
        model = _described_model(lambda config: model_class(config, targets), described, targets, str(path))
        prefix = "model."
        weights = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        load_weights(model, weights, str(path))
        return model.eval()
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            content, _ = load_folder(folder)
            try:
                found = model_class(content["model"], allowed(allow))
            except InputError as error:
                raise InputError(f"{folder / CONFIG}: {error}") from error
            return found.from_pretrained(folder, allow)
    left = ", ".join(map(str, sorted(path.glob("checkpoints/*.ckpt"))))
    raise InputError(
        f"{path} is not a trained model: no .ckpt, and without config.json or model/config.json; give a run's "
        f"folder, a saved model or a checkpoint" + (f". The run did not end, but left {left}" if left else "")
    )


def model_class(config: Mapping[str, Any], targets: Targets = REGISTERED_ONLY) -> type[SavedModel]:
    """Return the class of a saved model by the `_target_` in its config; `DualEncoder` without one.

    Raises:
        InputError: the name is not among `targets`, or is not a model.
    """
    found: Any = find_target(config.get(TARGET, "clep.models.DualEncoder"), "model", targets)
    if not (isinstance(found, type) and issubclass(found, SavedModel)):
        models = ", ".join(sorted(name for name in REGISTERED if name.startswith("clep.models.")))
        raise InputError(
            f"model.{TARGET}={config[TARGET]!r} is not a clep.models.SavedModel; choose one such as {models}"
        )
    return found


def check_model_name(model: type[SavedModel], name: Any, targets: Targets) -> str:
    """Return the `_target_` of a model's config: `name`, or the class's own name where that is None.

    Raises:
        InputError: `name` is not among `targets`, or is another class than `model`.
    """
    public = f"clep.models.{model.__name__}"
    own = public if public in REGISTERED else f"{model.__module__}.{model.__qualname__}"
    if name is not None and find_target(name, "model", targets) is not model:
        raise InputError(f"model.{TARGET}: expected {own}, got {name!r}")
    return own if name is None else name


def _described_model(
    class_of: Callable[[dict[str, Any]], type[Model]], described: Mapping[str, Any], targets: Targets, source: str
) -> Model:
    """Build the model described by a `config.json` or by the entry `clep` of a checkpoint.

    Args:
        class_of: returns the class for a model's config.
        described: dict with the keys `model` and `metadata`.
        targets: the classes it may name.
        source: the file, for messages.
    """
    try:
        metadata = described.get("metadata") or {}
        check_metadata(metadata)
        return class_of(described["model"]).from_config({**described["model"], "metadata": metadata}, targets)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def model_metadata(
    bank_encoder: str | None = None,
    bank_dim: int | None = None,
    bank_rows_per_second: float | int | None = None,
    context_encoder: str | None = None,
    sentence_encoder: str | None = None,
    text_bank_encoder: str | None = None,
    tag_style: str | None = None,
    prompts: dict[str, Any] | None = None,
    window: dict[str, Any] | None = None,
    context: dict[str, Any] | None = None,
    **others: Any,
) -> None:
    """Schema of a saved model's metadata; never called."""


def check_metadata(metadata: Any) -> None:
    """Check the metadata of a saved model; `window` and `context` are checked where they are used.

    Raises:
        InputError: it is not a dict, or a value has another type; the message names the key.
    """
    if not isinstance(metadata, dict) or not all(isinstance(key, str) for key in metadata):
        raise InputError(f"metadata is of type {type(metadata).__name__}, expected a dict with names as keys")
    check_call(model_metadata, metadata, "metadata")
