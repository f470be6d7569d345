"""Weights behind URLs, fetched into the cache, and the names that sentence encoders have in files and banks."""

import os
import re
from pathlib import Path

from clep.files import published_weights
from clep.files import sentence_model_name as name_of_local
from clep.remote import is_remote, local_path, suffix

FOLDER_SUFFIXES = (".json", ".txt", ".safetensors")
"""Files of a remote folder of weights that are fetched."""
_HUB_MODEL = re.compile(r"hf:/+([\w-][\w.-]*/[\w-][\w.-]*)/?")
_fetched: dict[str, str] = {}


def local_weights(weights: str | Path) -> str:
    """Return weights as the encoders read them: those behind a URL are fetched into the cache, see `clep.remote`.

    Args:
        weights: a path or hub name, which is returned unchanged; the URL of a file, or of a folder, of which the files
            in `FOLDER_SUFFIXES` are fetched. `hf://user/name` is the hub name `user/name`.

    Raises:
        InputError: the protocol is unknown, or the file does not exist, is refused or cannot be fetched.
    """
    weights = os.fspath(weights)
    if model := _HUB_MODEL.fullmatch(weights):
        return model[1]
    if not is_remote(weights) and "://" not in weights:
        return weights
    is_file = re.fullmatch(r"\.[a-z]+", suffix(weights)) is not None
    return str(local_path(weights, () if is_file else FOLDER_SUFFIXES))


def local_text_encoder(name: str) -> str:
    """Return the setting `text_encoder` with local weights; a URL is fetched once a process, so that names stay equal.

    Args:
        name: of a sentence encoder, or `KIND:WEIGHTS`; a URL, or `KIND:URL`, of what `local_weights` fetches.

    Raises:
        InputError: see `local_weights`.
    """
    if "://" not in name:
        return name
    kept = _fetched.get(name)
    if kept is None or not Path(kept).exists():
        kept = _fetched[name] = local_weights(name.removeprefix(_kind(name)))
    return _kind(name) + kept


def sentence_model_name(name: str) -> str:
    """Return the name of a sentence encoder as part of a file name.

    That of a folder is its own name, that of a hub name has `--` for `/`, without the organisation
    "sentence-transformers" ("all-mpnet-base-v2"). That of `KIND:WEIGHTS`, the text side of a published model, is its
    `published_name`. Weights behind a URL have the name of the same local weights.

    Raises:
        InputError: see `local_weights`.
    """
    return name_of_local(local_text_encoder(name))


def _kind(name: str) -> str:
    """Return "KIND:" of `KIND:URL`; "" of a URL."""
    published = None if re.match(r"[a-z][a-z0-9+]*://", name.strip()) else published_weights(name)
    return "" if published is None else f"{published[0]}:"
