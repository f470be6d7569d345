"""Weights behind URLs, fetched into the cache, and the names that encoders have in files and banks."""

import hashlib
import os
import re
from pathlib import Path

from clep.files import open_input, read_json
from clep.remote import is_remote, local_path, suffix

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
PUBLISHED_CONFIG = "published.json"
"""What the job convert_weights writes beside the weights of a published model: its kind, name and sizes."""
FOLDER_SUFFIXES = (".json", ".txt", ".safetensors")
"""Files of a remote folder of weights that are fetched."""
_ENDS_BYTES = 1 << 16
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
    name = local_text_encoder(name)
    if (published := _split(name)) is not None:
        return published_name(*published)
    folder = Path(name).expanduser()
    return _as_file_name(folder.resolve().name if folder.is_dir() else name.removeprefix("sentence-transformers/"))


def published_weights(name: str) -> tuple[str, str] | None:
    """Split `KIND:WEIGHTS`, which names the text side of a published model; None for any other name.

    Weights behind a URL are fetched.

    Raises:
        InputError: see `local_weights`.
    """
    return _split(local_text_encoder(name))


def published_name(kind: str, weights: str | Path) -> str:
    """Return the name that banks of a published model record: its kind and a digest of its weights.

    Both sides of a model have the same name, so that a bank of its texts is known to belong to a bank of its videos.
    The digest is that of the size, beginning and end of the file: the end of a `.pt` holds checksums of all data, the
    beginning of a `.safetensors` names, shapes and offsets. A folder that the job convert_weights wrote keeps the name
    of the file it was made from. A model of the hub is named by its hub name.
    """
    path = Path(weights).expanduser()
    if path.is_dir() and (path / PUBLISHED_CONFIG).is_file():
        config = read_json(path / PUBLISHED_CONFIG)
        if isinstance(config, dict) and isinstance(config.get("name"), str):
            return _as_file_name(config["name"])
    if not path.exists():
        return _as_file_name(f"{kind}-{weights}")
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES)
    digest = hashlib.blake2b(digest_size=4)
    for file in files:
        with open_input(file) as content:
            size = content.seek(0, os.SEEK_END)
            digest.update(str(size).encode())
            for start in (0, max(0, size - _ENDS_BYTES)):
                content.seek(start)
                digest.update(content.read(_ENDS_BYTES))
    return f"{kind}-{digest.hexdigest()}"


def _split(name: str) -> tuple[str, str] | None:
    found = re.fullmatch(r"([a-z][a-z0-9_]+):(.+)", name.strip())
    return None if found is None else (found[1], found[2])


def _kind(name: str) -> str:
    """Return "KIND:" of `KIND:URL`; "" of a URL."""
    published = None if re.match(r"[a-z][a-z0-9+]*://", name.strip()) else _split(name)
    return "" if published is None else f"{published[0]}:"


def _as_file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("/", "--")).strip("-.") or "model"
