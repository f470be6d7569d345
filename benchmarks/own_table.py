"""Read and filter a user's table at full size: `python -m benchmarks.own_table`.

A parquet file of 10,000,000 moments with 3,000,000 distinct texts is read by `clep.datasets.moment_table` in a process
of its own, matched with the videos of a bank, and written as narrations.arrow. Reported are the seconds and the peak
memory of that process, its imports included.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import RESULTS, Report, read_settings

_CHILD = """
import json, resource, sys, time
from clep.datasets.moment_table import read_moment_table
table, out, videos = sys.argv[1], sys.argv[2], int(sys.argv[3])
ends_s = {f"video{number:06d}": 600.0 for number in range(videos)}
started = time.perf_counter()
found = read_moment_table(table, ends_s=ends_s)
read = time.perf_counter()
found.narrations.write(out)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
figures = {"read_s": read - started, "write_s": time.perf_counter() - read, "peak_bytes": peak, "report": found.report}
print(json.dumps(figures | {"distinct_texts": len(found.narrations.texts)}))
"""


@dataclass
class Settings:
    """Of this benchmark."""

    results: str = str(RESULTS)
    rows: int = 10_000_000
    distinct_texts: int = 3_000_000
    videos: int = 20_000


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    report = Report("own_table", settings, settings.results)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "moments.parquet"
        report.add("file_bytes", write_table(path, settings))
        command = [
            sys.executable,
            "-c",
            _CHILD,
            str(path),
            str(Path(folder) / "narrations.arrow"),
            str(settings.videos),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        figures = json.loads(done.stdout.splitlines()[-1])
    report.add("table", figures)
    full_size = asdict(settings) | {"results": ""} == asdict(Settings()) | {"results": ""}
    note = "" if full_size else "smaller than the target's table"
    report.target("seconds to read and filter", figures["read_s"], at_most=60.0, note=note)
    report.target("peak memory, GB", figures["peak_bytes"] / 1e9, at_most=4.0, note=note)
    return report.write()


def write_table(path: Path, settings: Settings) -> int:
    """Write the table; return its size in bytes. Every text occurs, the usual ones many times."""
    values = np.random.default_rng(0)
    n, texts = settings.rows, settings.distinct_texts
    usual = (texts * values.random(n) ** 3).astype(np.int64)
    usual[:texts] = np.arange(texts)
    values.shuffle(usual)
    start = values.random(n) * 590
    verbs = ("opens", "closes", "washes", "cuts", "takes", "puts down", "pours", "stirs")
    sentences = [f"#C C {verbs[i % 8]} the object {i // 8} with the left hand" for i in range(texts)]
    columns = {
        "video": pa.DictionaryArray.from_arrays(
            pa.array(values.integers(0, settings.videos, n, dtype=np.int32)),
            pa.array([f"video{number:06d}" for number in range(settings.videos)]),
        ),
        "start": pa.array(start),
        "end": pa.array(start + 1 + values.random(n)),
        "text": pa.array(sentences).take(pa.array(usual)),
    }
    pq.write_table(pa.table(columns), path)
    return path.stat().st_size


if __name__ == "__main__":
    main()
