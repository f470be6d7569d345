"""Run all benchmarks, one after the other: `python -m benchmarks.run_all [only=[loader,opening]] [key=value …]`.

Each benchmark runs in a process of its own, so that none inherits another's memory or threads.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from benchmarks.report import DATA, RESULTS, read_settings, shown, table
from clep.files import read_json

NAMES = (
    "loader",
    "training",
    "opening",
    "zero_shot",
    "long_term",
    "extraction",
    "short_clips",
    "chunked_encoding",
    "objectives",
    "samplers",
    "own_table",
    "run_report",
    "many_processes",
    "multi_instance",
    "published_sizes",
    "search_index",
    "demo",
    "demo_long_term",
)
WITH_DATA = ("loader", "training", "samplers", "demo", "demo_long_term")


@dataclass
class Settings:
    """Which benchmarks to run, where their data is kept, where results go, and folders of real clips."""

    only: list[str] = field(default_factory=lambda: list(NAMES))
    data: str = DATA
    videos: str = ""
    results: str = str(RESULTS)


def main(words: Sequence[str] | None = None) -> int:
    """Run them, print all targets, and return how many benchmarks failed to run; a missed target is no failure."""
    settings = read_settings(Settings, words)
    unknown = set(settings.only) - set(NAMES)
    if unknown:
        sys.exit(f"error: there is no benchmark {', '.join(sorted(unknown))}; choose among {', '.join(NAMES)}")
    failed, rows = 0, list[tuple[object, ...]]()
    for name in settings.only:
        words_of = [f"results={settings.results}", *([f"data={settings.data}"] if name in WITH_DATA else [])]
        words_of += [f"videos={settings.videos}"] if name == "extraction" and settings.videos else []
        started = perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}", *words_of]
        if subprocess.run(command, cwd=Path(__file__).parent.parent).returncode:
            failed += 1
            rows.append((name, "did not run", None, None, ""))
            continue
        print(f"{name} took {perf_counter() - started:.0f} s", flush=True)
        for what, target in read_json(Path(settings.results) / f"{name}.json")["targets"].items():
            bound = f"≥ {target['at_least']}" if "at_least" in target else f"≤ {target['at_most']}"
            rows.append((name, what, shown(target["value"]), bound, "reached" if target["reached"] else "missed"))
    table("all targets", ("benchmark", "what", "measured", "target", ""), rows)
    return failed


if __name__ == "__main__":
    sys.exit(main())
