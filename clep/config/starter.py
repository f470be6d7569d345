"""A starter project: one config, one part, one test, one command; `clep-train new FOLDER` writes it."""

import re
from pathlib import Path

from clep.errors import InputError

_CONFIG = """# @package _global_
# clep-train --config-dir conf experiment={name}
# clep's demo (a small synthetic dataset, generated on the first run) with a loss of this project.
# Your own data instead: begin with `- table` in place of `- demo`, and give data.table=FILE data.features=DIR.
defaults:
  - demo
  - _self_

name: {name}
loss:
  _target_: {name}_parts.SmoothedClipLoss
  smoothing: 0.1
"""
_PART = '''"""Parts of this project; a config names them by `_target_: {name}_parts.Class`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmoothedClipLoss(nn.Module):
    """CLIP's loss with smoothed targets: a fraction of each target is spread over all pairs of the batch.

    Args:
        smoothing: that fraction, in [0, 1).
    """

    uses_bias = False

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(
        self, video: Tensor, text: Tensor, scale: Tensor, positives: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch of embeddings [batch, dim] of unit length."""
        target = torch.eye(len(video), device=video.device) if positives is None else positives.float()
        target = target / target.sum(1, keepdim=True)
        target = (1 - self.smoothing) * target + self.smoothing / len(video)
        logits = scale * video @ text.T
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
'''
_TEST = '''"""Run with `pytest`."""

import torch
from torch.nn import functional as F

from {name}_parts import SmoothedClipLoss


def test_smoothing_costs_nothing_where_it_is_zero():
    video, text = F.normalize(torch.randn(2, 5, 8), dim=-1)
    logits, target = 10 * video @ text.T, torch.arange(5)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(SmoothedClipLoss(0.0)(video, text, torch.tensor(10.0)), expected)


def test_certainty_is_punished_with_smoothing():
    same = torch.eye(4)
    sure, unsure = torch.tensor(100.0), torch.tensor(3.0)
    assert SmoothedClipLoss(0.1)(same, same, sure) > SmoothedClipLoss(0.1)(same, same, unsure)
'''


def write_starter(folder: Path) -> list[str]:
    """Write a project that trains, and return the commands that run and test it.

    Args:
        folder: of the project; its name is that of the experiment.

    Raises:
        InputError: the folder holds files already, or its name is no Python name.
    """
    name = re.sub(r"\W", "_", folder.resolve().name)
    if not name.isidentifier():
        raise InputError(f"new {folder}: a project's name starts with a letter, for instance my_project")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"new {folder}: it exists already; choose another name, or delete it")
    files = {
        f"conf/experiment/{name}.yaml": _CONFIG,
        f"{name}_parts.py": _PART,
        f"test_{name}.py": _TEST,
    }
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("{name}", name), encoding="utf-8")
    return [f"cd {folder}", f"clep-train --config-dir conf experiment={name}", f"pytest test_{name}.py"]
