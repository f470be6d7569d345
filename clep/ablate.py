"""The ablation command: `python -m clep.ablate [ablation=NAME] [key=value[,value…] …] [out=DIR]`."""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from clep.ablation.cells import Outcome, claim, run_cells
from clep.ablation.grid import Grid, read_grid
from clep.ablation.table import as_data, chosen_metrics, draw, in_terminal, rows_of, with_suffix, write_table
from clep.command_line import run_command
from clep.compute.locks import file_lock
from clep.config.compose import compose_config
from clep.config.folder import config_folder
from clep.errors import InputError

log = logging.getLogger(__name__)

USAGE = """Train a grid of settings over seeds, one process per run, and tabulate accuracy and training time.

  python -m clep.ablate experiment=demo_long_term operator=none,avg,max,nl seed=0,1,2 out=DIR
  python -m clep.ablate ablation=NAME [key=value[,value…] …]

key=a,b    settings of train.py; those with several values, in Hydra's grammar, are swept
seed=0,1   the runs of a row; the table gives their mean and sample standard deviation
ablation   {names}, or a file like those: common settings, and named variants, one per row
metrics    [a,b]: names or patterns (zeroshot/*/top1) of metrics.json; default: all evaluators' metrics
allow      your own modules or classes that an ablation's file may name: allow=[mine]
out        folder of the runs; the same command again trains only what is missing. Default: runs/<ablation>
table      path of table.md, table.json and table.png without suffix; default: <out>/table
processes  runs at the same time, which share cores and GPUs evenly; default: 1, which uses all
--config-dir DIR  your own config groups, as in training"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an ablation from the command line, see `run_command`; a run that failed gives status 1."""
    return run_command(_run, _usage, arguments)


def _run(words: list[str]) -> int:
    return int(any(cell["failed"] for cell in ablate(words, Console())["cells"]))


def _usage(_: list[str]) -> str:
    return USAGE.format(names=", ".join(sorted(path.stem for path in (config_folder() / "ablation").glob("*.yaml"))))


def ablate(words: Sequence[str], console: Console | None = None) -> dict[str, Any]:
    """Train every missing cell; write table.md, table.json, table.png and report.html; return table.json's content.

    Args:
        words: `key=value` as on the command line, see `read_grid`.
        console: where to show the table; None: nowhere.

    Raises:
        InputError: a word cannot be used, the folder holds something else, or no run succeeded.
    """
    from clep.view.report.grid_page import try_grid_page  # PyTorch and charts, which `--help` does without

    grid = read_grid(words)
    check_settings(grid)
    log.info("%d runs in %s", len(grid.cells()), grid.out)
    with file_lock(grid.out / "grid.json"):
        claim(grid)
        outcomes = run_cells(grid, _log_outcome)
        if all(one.metrics is None for one in outcomes):
            raise InputError(f"none of {len(outcomes)} runs succeeded; the first: {outcomes[0].failed}")
        metrics = chosen_metrics(outcomes, grid.metrics)
        command = shlex.join(["python", "-m", "clep.ablate", *words])
        data, rows = as_data(grid, outcomes, metrics, command), rows_of(outcomes, metrics)
        figure: Path | None = with_suffix(grid.table, ".png")
        try:
            draw(with_suffix(grid.table, ".png"), rows, metrics)
        except InputError as error:
            log.warning("%s", error)
            figure = None
        write_table(grid.table, data, rows, figure)
        try_grid_page(grid.out, metrics if grid.metrics else ())
    if console is not None:
        console.print(in_terminal(rows, metrics, str(with_suffix(grid.table, ".md"))))
    return data


def check_settings(grid: Grid) -> None:
    """Compose the config of every row before the first run; cells of other seeds differ in nothing else.

    Raises:
        InputError: a setting does not exist; the message names the row and the setting.
    """
    cells = grid.cells()
    for cell in (one for one in cells if one.seed == cells[0].seed):
        try:
            compose_config("train", cell.overrides, grid.config_dir)
        except InputError as error:
            raise InputError(f"{cell.row}: {error}") from error


def _log_outcome(outcome: Outcome) -> None:
    done = "trained before" if outcome.reused else f"{outcome.seconds or 0.0:.0f} s"
    log.info("%s: %s", outcome.cell.title, done)


if __name__ == "__main__":
    sys.exit(main())
