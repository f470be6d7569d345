"""Make the report of a run with 1,000,000 held-out pairs: `python -m benchmarks.run_report`.

A process of its own takes the details of a retrieval among that many random pairs of embeddings, writes them, and makes
the page. Ranks are given, since the evaluator has them. Reported are the seconds and the peak memory of the process
beyond the embeddings, its imports included.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import RESULTS, Report, read_settings

_CHILD = """
import json, resource, sys, time
started = time.perf_counter()
from pathlib import Path
import numpy as np, torch
from clep.evaluation.details import DETAILS, retrieval_details, write_details
from clep.report import report
imported = time.perf_counter()
folder, pairs, dim = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
video = torch.nn.functional.normalize(torch.randn(pairs, dim), dim=1)
text = video.roll(1, 0)
text_id = torch.arange(pairs) // 3
ranks = {way: torch.randint(1, pairs, (pairs,)) for way in ("t2v", "v2t")}
seconds = np.arange(pairs, dtype=np.float64)
sentences = [f"C opens the object {i}" for i in range(pairs // 3 + 1)]
videos = [f"video{i // 1000}" for i in range(pairs)]
given = time.perf_counter()
moments = videos, seconds, seconds + 1
details = retrieval_details("val/retrieval", video, text, text_id, ranks, moments, sentences, 20.0)
taken = time.perf_counter()
write_details(folder / DETAILS, details, {})
(folder / "metrics.json").write_text(json.dumps({"val/retrieval/t2v/r1": 0.0, "val/retrieval/v2t/r1": 0.0}))
page = report([folder])
ended = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
figures = {"imports_s": imported - started, "details_s": taken - given, "page_s": ended - taken, "peak_bytes": peak}
figures |= {"embeddings_bytes": 2 * video.nbytes, "page_bytes": page.stat().st_size}
print(json.dumps(figures))
"""


@dataclass
class Settings:
    """Of this benchmark."""

    results: str = str(RESULTS)
    pairs: int = 1_000_000
    dim: int = 256


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    report = Report("run_report", settings, settings.results)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _CHILD, folder, str(settings.pairs), str(settings.dim)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        figures = json.loads(done.stdout.splitlines()[-1])
    report.add("report", figures)
    note = "" if settings.pairs == Settings.pairs else "fewer pairs than the target's"
    seconds = figures["imports_s"] + figures["details_s"] + figures["page_s"]
    report.target("seconds to make the report", seconds, at_most=60.0, note=note)
    beyond = (figures["peak_bytes"] - figures["embeddings_bytes"]) / 1e9
    report.target("peak memory beyond the embeddings, GB", beyond, at_most=2.0, note=note)
    report.target("size of the page, MB", figures["page_bytes"] / 1e6, at_most=8.0, note=note)
    return report.write()


if __name__ == "__main__":
    main()
