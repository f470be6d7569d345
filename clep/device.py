"""The device that a command computes on."""

import torch

from clep.errors import InputError


def find_device(device: str | torch.device | None) -> torch.device:
    """Return a device of this machine; None chooses a GPU if there is one.

    Raises:
        InputError: it is unknown, or this machine has no such GPU.
    """
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise InputError(f"device={device!r} is unknown: give cpu, cuda or cuda:0") from error
    if found.type == "cuda" and (not torch.cuda.is_available() or (found.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"device={device}: this machine has no such GPU; give device=cpu")
    return found
