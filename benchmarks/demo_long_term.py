"""Accuracy with and without long-term context: `python -m benchmarks.demo_long_term [key=value …]`.

For each seed a synthetic dataset of that seed is generated, and `experiment=demo_long_term` is trained on it with each
feature bank operator and with none, by `clep.ablate`. The questions "who picked it up" and "open or closed" have two
choices that look alike at the moment itself; those of "now" are answered by the moment.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings
from clep.ablate import ablate

PAST = ("who_picked_it_up", "open_or_closed")
GROUPS = (*PAST, "now")
NONE = "operator=none"


@dataclass
class Settings:
    """Of this benchmark; `overrides` are given to every run."""

    data: str = DATA
    results: str = str(RESULTS)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    operators: list[str] = field(default_factory=lambda: ["none", "avg", "max", "nl"])
    overrides: list[str] = field(default_factory=list)
    processes: int = 1
    keep: bool = False


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    logging.getLogger("clep.ablate").setLevel(logging.INFO)
    report = Report("demo_long_term", settings, settings.results)
    folder = Path(settings.data) / "demo_long_term"
    found = ablate(
        [
            "experiment=demo_long_term",
            "synthetic.seed=${seed}",
            f"paths.data='{folder}/seed-${{seed}}'",
            "logger=none",
            *settings.overrides,
            f"operator={','.join(settings.operators)}",
            f"seed={','.join(map(str, settings.seeds))}",
            f"metrics=[{','.join(f'choice/{group}/accuracy' for group in GROUPS)}]",
            f"processes={settings.processes}",
            f"out='{folder}/runs'",
        ]
    )
    report.add("rows", found["rows"])
    report.add("cells", [{key: cell[key] for key in ("row", "seed", "metrics", "failed")} for cell in found["cells"]])
    measured = {row["row"]: row["metrics"] for row in found["rows"]}
    for group in PAST:
        of = {name: metrics[f"choice/{group}/accuracy"] for name, metrics in measured.items()}
        report.target(f"{group}: without context, points beside chance", abs(of[NONE]["mean"] - 50), at_most=4)
        for name in sorted(of.keys() - {NONE}):
            gain = of[name]["mean"] - of[NONE]["mean"]
            spread = max(of[name]["standard_deviation"] or 0, of[NONE]["standard_deviation"] or 0)
            report.target(f"{group}: {name}, gain in points", gain, at_least=3 * spread, note="3 standard deviations")
    if not settings.keep:
        shutil.rmtree(folder)
    print((folder / "runs/table.md").read_text() if settings.keep else _markdown(found))
    return report.write()


def _markdown(found: dict[str, Any]) -> str:
    lines = [f"| | {' | '.join(name.split('/')[1] for name in found['metrics'])} |", "|---|---|---|---|"]
    for row in found["rows"]:
        cells = [row["metrics"][name] for name in found["metrics"]]
        shown = (f"{of['mean']:.1f}" + (f" ± {d:.1f}" if (d := of["standard_deviation"]) else "") for of in cells)
        lines.append(f"| {row['row']} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
