"""Search with long-term context, for `benchmarks.long_term`: every second of a video, each with its minute.

Neighbouring moments share rows. `PretrainedModel.embed_video` reads and projects each row once; beside it each moment's
context is gathered and projected for itself, as in training.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import Report, table
from benchmarks.timing import medians, paired_ratio, seconds_of, take_turns
from clep.bank import BankWriter, Clock, FeatureBank
from clep.data import LongTerm, Window
from clep.models import DualEncoder
from clep.pretrained import PretrainedModel

DIM, EMBED = 1536, 512


def measure(minutes: float, repeats: int, report: Report) -> None:
    """Time the embeddings of a film that a search needs, for each operator; both ways must agree."""
    found: dict[str, Any] = {"minutes": minutes, "moments": round(60 * minutes)}
    with tempfile.TemporaryDirectory() as scratch:
        rng, path = np.random.default_rng(0), Path(scratch) / "film.h5"
        with BankWriter(path, DIM, Clock()) as writer:
            writer.add("film", rng.standard_normal((round(minutes * 60 * 1.875), DIM), dtype=np.float32))
        bank = FeatureBank.open(path, "cpu")
        for operator in ("FBONonLocal", "FBOAvg", "FBOMax"):
            model, start = _model(operator), torch.arange(round(60 * minutes), dtype=torch.float64)
            sides = {
                "each row once": lambda m=model, s=start: m.embed_video(bank, "film", s, s + 4),
                "each moment for itself": lambda m=model, s=start: _for_itself(m, bank, s),
            }
            torch.testing.assert_close(*(work() for work in sides.values()), rtol=1e-3, atol=1e-5)
            raw = take_turns({name: seconds_of(work) for name, work in sides.items()}, repeats, warm=0)
            ratio = paired_ratio(raw, "each moment for itself", "each row once")
            found[operator] = {"seconds": raw, "median": medians(raw), "for_itself_over_once": ratio}
            del model
    report.add("search", found)
    table(
        f"embedding {found['moments']:,} moments of a film, each with its minute",
        ("operator", "each row once, s", "each moment for itself, s", "×"),
        [
            (name, *one["median"].values(), one["for_itself_over_once"]["ratio"])
            for name, one in found.items()
            if isinstance(one, dict)
        ],
    )


def _model(operator: str) -> PretrainedModel:
    torch.manual_seed(0)
    tower = {"_target_": "clep.models.LongTermTower", "in_dim": DIM, "out_dim": EMBED}
    tower["operator"] = {"_target_": f"clep.models.{operator}", "in_dim": DIM}
    text = {"_target_": "clep.models.ProjectionHead", "in_dim": 768, "out_dim": EMBED}
    metadata = {"window": Window().to_dict(), "context": LongTerm().to_dict()}
    return PretrainedModel(DualEncoder.from_config({"video": tower, "text": text, "metadata": metadata}), "cpu")


@torch.no_grad()
def _for_itself(model: PretrainedModel, bank: FeatureBank, start: Tensor) -> Tensor:
    context = model.context
    assert context is not None
    video = torch.zeros(len(start), dtype=torch.int64)
    first, last = bank.window(video, start, start + 4, align=model.window.align)
    pieces = []
    for some in torch.arange(len(start)).split(context.at_once(4096)):
        batch = model.window.gather(bank, first[some], last[some])
        batch |= context.gather(bank, video[some], start[some] + 2)
        pieces.append(model.encoder.encode_video(batch))
    return torch.cat(pieces)
