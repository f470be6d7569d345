"""Memory of processes that train side by side from one bank on disk: `python -m benchmarks.many_processes`.

8 processes, as the ranks of a training, open 20,000 videos and 2,000,000 narrations and train a few steps at the same
time. Banks, narrations and text embeddings are mapped, so that their pages are shared; reported is what each process
has to itself (`Anonymous` of /proc/self/smaps_rollup).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.opening import STEADY_MALLOC, narration_table
from benchmarks.report import RESULTS, Report, read_settings, table
from clep.bank import BankWriter, Clock

ROWS_OF_A_VIDEO = 40


@dataclass
class Settings:
    """Of this benchmark."""

    results: str = str(RESULTS)
    processes: int = 8
    videos: int = 20_000
    narrations: int = 2_000_000
    distinct_texts: int = 500_000
    dim: int = 256
    text_dim: int = 256
    batch_size: int = 1024
    steps: int = 12


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    report = Report("many_processes", settings, settings.results)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), settings)
        command = [sys.executable, "-m", "benchmarks.disk_memory", f"folder={folder}"]
        command += [f"batch_size={settings.batch_size}", f"steps={settings.steps}"]
        started = [
            subprocess.Popen(
                command,
                cwd=Path(__file__).parent.parent,
                env={**os.environ, **STEADY_MALLOC, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(settings.processes)
        ]
        found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    report.add("memory_mb", found)
    own = [one["usual"]["Anonymous"] for one in found]
    table(
        "memory of a process, MB", ("process", "its own, usual step"), [(str(i), value) for i, value in enumerate(own)]
    )
    report.target("own memory of a process, MB (the largest)", max(own), at_most=394)
    return report.write()


def _write(folder: Path, settings: Settings) -> None:
    values = np.random.default_rng(0)
    uids = [f"video-{number:06d}" for number in range(settings.videos)]
    end_s = ROWS_OF_A_VIDEO * 16 / 30
    narrations = narration_table(uids, settings.narrations, settings.distinct_texts, values, end_s)
    narrations.write(folder / "narrations.arrow")
    with BankWriter(folder / "texts.h5", settings.text_dim, None, "float32", source=narrations.digest) as writer:
        writer.add("texts", values.standard_normal((len(narrations.texts), settings.text_dim), dtype=np.float32))
    block = values.standard_normal((4 * ROWS_OF_A_VIDEO, settings.dim), dtype=np.float32).astype(np.float16)
    with BankWriter(folder / "bank.h5", settings.dim, Clock(), n_rows=settings.videos * ROWS_OF_A_VIDEO) as writer:
        for number, uid in enumerate(uids):
            writer.add(uid, block[number % 3 * 20 :][:ROWS_OF_A_VIDEO])


if __name__ == "__main__":
    main()
