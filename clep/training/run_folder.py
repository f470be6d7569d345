"""Find checkpoints in the folders of earlier runs."""

from pathlib import Path
from typing import Any

import torch

from clep.errors import InputError


def find_checkpoint(choice: str | None, runs: str | Path) -> str | None:
    """Return the checkpoint to continue from.

    Args:
        choice: None for none; "last" for the newest `last.ckpt` below `runs`; a run's folder; or a `.ckpt`.
        runs: the folder that holds the runs of this experiment.

    Raises:
        InputError: there is none; the message says where it was looked for.
    """
    if choice is None:
        return None
    if choice == "last":
        found = sorted(Path(runs).glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise InputError(
                f"ckpt_path=last: no run below {runs} has a checkpoints/last.ckpt; leave ckpt_path out to start anew"
            )
        return str(found[-1])
    path = Path(choice)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise InputError(f"ckpt_path={choice}: {path} does not exist; give a run's folder, a .ckpt, or `last`")
    return str(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a Lightning checkpoint without running any code in it.

    Raises:
        InputError: it is missing, truncated, or holds more than plain data.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} cannot be read as a checkpoint of plain data ({reason}); it may be truncated, or of other code"
        ) from error
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path} is not a checkpoint: it holds a {type(checkpoint).__name__}, not a dict")
    return checkpoint
