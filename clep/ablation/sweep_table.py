"""The table of a sweep's runs (`python train.py -m …`), in the form of an ablation's."""

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console

from clep.ablation.cells import Outcome
from clep.ablation.grid import Cell, Grid
from clep.ablation.table import as_data, chosen_metrics, in_terminal, rows_of, write_table
from clep.config.overrides import read_overrides
from clep.config.saved import AS_CONFIGURED, OVERRIDES, SEED, without_seed, words_that_differ
from clep.errors import InputError
from clep.files import read_json
from clep.training.run_folder import FAILURE

log = logging.getLogger(__name__)


class SweepTable(Callback):
    """Hydra callback that writes `table.md`, `table.json` and `report.html` into a sweep's folder and prints the table.

    Runs that differ only in their seed are one row, with mean and standard deviation. The exit status is 1 if a run
    failed.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Tabulate the runs below `hydra.sweep.dir`."""
        from clep.view.report.grid_page import try_grid_page  # loads what draws charts

        folder = Path(config.hydra.sweep.dir)
        try:
            failed = tabulate(folder, Console())
        except InputError as error:
            log.error("%s", error)
            failed = 1
        try_grid_page(folder)
        if failed:
            sys.exit(1)  # Hydra turns other exceptions of callbacks into warnings


def tabulate(folder: Path, console: Console | None = None) -> int:
    """Write the table of the runs in `folder`, and return how many of them failed.

    Args:
        folder: of the sweep; each run in it has `.hydra/overrides.yaml`, and `metrics.json` if it succeeded.
        console: where to show the table; None: nowhere.

    Raises:
        InputError: no run succeeded; gives the reason of the first.
    """
    found = sorted(folder.glob(f"*/{OVERRIDES}"), key=lambda path: (len(path.parts[-3]), path))
    typed = {path.parents[1]: read_overrides(path) for path in found}
    if not typed:
        return 0
    outcomes, varied = [], words_that_differ(typed)
    common = [word for word in next(iter(typed.values())) if word not in next(iter(varied.values()))]
    for run, own in varied.items():
        seed = next((word.partition("=")[2] for word in own if word.startswith(f"{SEED}=")), None)
        row = ", ".join(without_seed(own)) or AS_CONFIGURED
        metrics = read_json(run / "metrics.json") if (run / "metrics.json").is_file() else None
        failed = None if metrics else "it left no metrics"
        if (run / FAILURE).is_file():
            failed = str(read_json(run / FAILURE).get("error"))
        outcomes.append(Outcome(Cell(row, seed, (*common, *own)), metrics, None, failed))
    count = sum(one.failed is not None for one in outcomes)
    if count == len(outcomes):
        raise InputError(f"none of {count} runs succeeded; the first: {outcomes[0].failed}")
    grid, names = Grid(fixed=tuple(common), out=folder, table=folder / "table"), chosen_metrics(outcomes, ())
    rows = rows_of(outcomes, names)
    write_table(
        grid.table, as_data(grid, outcomes, names, shlex.join(["python", "train.py", *sys.argv[1:]])), rows, None
    )
    if console is not None:
        console.print(in_terminal(rows, names, f"{folder / 'table'}.md"))
    return count
