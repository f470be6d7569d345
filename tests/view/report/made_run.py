"""Folders of runs without training: details of synthetic embeddings, metrics that belong to them, a history."""

from pathlib import Path

import numpy as np
import torch
import yaml

from clep.evaluation.details import (
    DETAILS,
    classification_details,
    precision_details,
    retrieval_details,
    value_details,
    write_details,
)
from clep.files import write_json
from clep.metrics import classification_metrics
from clep.metrics.history import HISTORY, Chosen, write_history
from clep.metrics.retrieval import retrieval_ranks, summarize_ranks

VERBS = ("opens", "washes", "cuts", "lifts")
MACHINE = {"cpu": "a processor", "cores": 2, "gpu": None, "python": "3", "torch": "2"}


def made_run(folder: Path, noise: float = 1.0, pairs: int = 120, name: str = "made", seed: int = 0) -> Path:
    """Write a run whose text embeddings are its video embeddings with noise."""
    generator = torch.Generator().manual_seed(seed)
    sentences = [f"C {VERBS[index % 4]} the <b>thing</b> {index // 4}" for index in range(max(pairs // 2, 1))]
    text_id = torch.arange(pairs) % len(sentences)
    centres = torch.nn.functional.normalize(torch.randn(len(sentences), 16, generator=generator), dim=1)
    rows = centres[text_id] + 0.2 * torch.randn(pairs, 16, generator=generator)
    video = torch.nn.functional.normalize(rows, dim=1)
    text = torch.nn.functional.normalize(centres + noise * torch.randn(centres.shape, generator=generator), dim=1)[
        text_id
    ]
    ranks = {
        "t2v": retrieval_ranks(text, video, text_id, text_id),
        "v2t": retrieval_ranks(video, text, text_id, text_id),
    }
    moments = [f"video {index % 5}" for index in range(pairs)], np.arange(pairs) * 2.0, np.arange(pairs) * 2.0 + 2
    details = retrieval_details("val/retrieval", video, text, text_id, ranks, moments, sentences, 20.0)
    scores, label = torch.randn(60, 6, generator=generator), torch.arange(60) % 6
    scores[torch.arange(60), label] += 3 - noise
    names = [f"class {index}" for index in range(6)]
    details += classification_details("zeroshot/kinetics", scores, label, [str(i) for i in range(60)], names, 1.0)
    values = np.array([80.0 - 10 * noise, np.nan, 30.0])
    details.append(precision_details("zeroshot/ego_charades/all/label", 50, names[:3], np.array([5, 0, 20]), values))
    precision = {way: 100 / of.double().numpy() for way, of in ranks.items()}
    keys = [str(index) for index in range(pairs)]
    details += [value_details(f"ek100_mir/{way}", ("mAP",), of[:, None], keys) for way, of in precision.items()]
    metrics = {f"val/retrieval/{way}/{key}": v for way, of in ranks.items() for key, v in summarize_ranks(of).items()}
    metrics |= {f"zeroshot/kinetics/{key}": value for key, value in classification_metrics(scores, label).items()}
    metrics["zeroshot/ego_charades/all/label/mAP"] = float(np.nanmean(values))
    metrics |= {f"ek100_mir/{way}/mAP": float(of.mean()) for way, of in precision.items()}
    metrics["ek100_mir/mean/mAP"] = float(np.mean([of.mean() for of in precision.values()]))
    before = {f"before/{key}": 1.0 for key in metrics}
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", metrics | before | {"seconds/fit": 12.5, "train/loss": 1.0})
    best = metrics["val/retrieval/t2v/r1"]
    history = [
        {"epoch": epoch, "step": 10 * epoch, "train/loss": 4.0 / epoch, "val/loss": 4.2 / epoch}
        | {"val/retrieval/t2v/r1": best - abs(epoch - 3)}
        for epoch in range(1, 6)
    ]
    write_history(folder / HISTORY, history, Chosen(3, 30, "val/retrieval/t2v/r1", "max", best))
    write_json(
        folder / "coverage.json", {"data": {"tiny": {"training moments": 1234}}, "retrieval": {"gallery": pairs}}
    )
    settings = {"name": name, "seed": seed, "data": {"batch_size": 512}, "paths": {"run": str(folder)}, "report": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | {"noise": noise}))
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"noise={noise}", f"seed={seed}"]))
    facts = {"started": 1.0, "ended": 100.0, "machine": MACHINE, "versions": {"clep": "0"}}
    write_details(folder / DETAILS, details, facts)
    return folder
