"""Convert a published checkpoint once to safetensors and JSON, which hold nothing but weights and plain values."""

import logging
import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from clep.checksums import verify_zip
from clep.errors import InputError
from clep.files import atomic_path, read_json, write_json
from clep.models.published.checkpoint import read_checkpoint
from clep.models.published.loading import load_published
from clep.weights import PUBLISHED_CONFIG, local_weights, published_name

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"


def convert_weights(
    kind: str,
    weights: str | Path,
    output: str | Path,
    sizes: str | Path | dict[str, Any] | None = None,
    tokenizer: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write `model.safetensors` and `published.json` into a folder, from which `load_published` loads the same model.

    Banks made with the folder have the name of those made with the original file. Optimizer state and pickled objects
    are left out.

    Args:
        kind: one of `KINDS`.
        weights: the released file, or its URL.
        output: folder, which is created.
        sizes: see `load_published`; recorded in `published.json`.
        tokenizer: hub name or folder of a tokenizer of transformers, which is copied into the folder.
        overwrite: convert again although the folder holds this model.

    Returns:
        Counts of tensors, parameters and bytes.

    Raises:
        InputError: the file cannot be loaded as this kind, is in this form already, or the folder cannot be written.
    """
    output, weights = Path(output), local_weights(weights)
    name = published_name(kind, weights)
    about = output / PUBLISHED_CONFIG
    if about.is_file() and not overwrite:
        found = read_json(about)
        if isinstance(found, dict) and found.get("name") == name and (output / WEIGHTS).is_file():
            logger.info("%s is up to date", output)
            return {"counts": found.get("counts", {}), "up_to_date": True}
        raise InputError(f"{output} holds another model ({found.get('name')}); give another output, or overwrite=true")
    model = load_published(kind, weights, sizes, tokenizer=tokenizer)  # checks kind, sizes and that the file is whole
    if not Path(weights).expanduser().exists() or kind == "clip":
        raise InputError(f"weights={weights} is a model of transformers, whose files are safetensors and JSON already")
    if tokenizer is not None:
        model.tokenize(["a"])
    del model
    file = read_checkpoint(weights)
    _check_archive(file.path)
    tensors = _separate(file.tensors)
    counts = {
        "tensors": len(tensors),
        "parameters": sum(value.numel() for value in tensors.values()),
        "bytes": sum(value.nbytes for value in tensors.values()),
    }
    given = read_json(sizes) if isinstance(sizes, str | Path) else sizes
    config = {
        "kind": kind,
        "name": name,
        "source": file.path.name,
        "sizes": _open_clip_config(file.path) if given is None and file.sizes is None else given or file.sizes,
        "args": {key: value for key, value in file.args.items() if isinstance(value, str | int | float | None)},
        "counts": counts,
    }
    output.mkdir(parents=True, exist_ok=True)
    from safetensors.torch import save_file

    with atomic_path(output / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    if tokenizer is not None:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(tokenizer).save_pretrained(output)
    write_json(about, config)
    return {"counts": counts, "up_to_date": False}


def _check_archive(path: Path) -> None:
    """Compare the parts of a file of `torch.save` with its checksums, which PyTorch does not do for a mapped file.

    Raises:
        InputError: a part differs.
    """
    if path.suffix != ".safetensors" and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                verify_zip(archive)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{path} is damaged ({error}); download it again") from error


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors without shared memory, as safetensors needs them; tied weights become copies."""
    seen: set[int] = set()
    for name, value in tensors.items():
        own = value.contiguous()
        tensors[name] = own.clone() if own.data_ptr() in seen else own
        seen.add(own.data_ptr())
    return tensors


def _open_clip_config(file: Path) -> Any:
    beside = file.parent / "open_clip_config.json"
    return read_json(beside) if beside.is_file() else None
