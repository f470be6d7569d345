"""Train a grid of settings over seeds and write what each buys and costs."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from clep.ablation.cells import Outcome, claim, run_cells
from clep.ablation.grid import Grid, read_grid
from clep.ablation.table import as_data, chosen_metrics, draw, in_terminal, rows_of, with_suffix, write_table
from clep.compute.locks import file_lock
from clep.config.check import describe_compose_error
from clep.config.folder import config_folder
from clep.config.resolvers import register_resolvers
from clep.errors import InputError

log = logging.getLogger(__name__)


def ablate(words: Sequence[str], console: Console | None = None) -> dict[str, Any]:
    """Train every cell that is not there yet, write table.md, table.json and table.png, and return the data.

    Args:
        words: `key=value` as on the command line, see `read_grid`.
        console: where the table is shown; None for nowhere.

    Raises:
        InputError: a word cannot be used, the folder holds something else, or no run ended well.
    """
    grid = read_grid(words)
    _refuse_what_cannot_be_composed(grid)
    names = [cell.name for cell in grid.cells()]
    log.info("%d runs in %s", len(names), grid.out)
    with file_lock(grid.out / "grid.json"):
        claim(grid)
        outcomes = run_cells(grid, _tell)
        if all(one.metrics is None for one in outcomes):
            raise InputError(f"none of {len(outcomes)} runs ended well; the first: {outcomes[0].failed}")
        metrics = chosen_metrics(outcomes, grid.metrics)
        data, rows = as_data(grid, outcomes, metrics, words), rows_of(outcomes, metrics)
        picture: Path | None = with_suffix(grid.table, ".png")
        try:
            draw(with_suffix(grid.table, ".png"), rows, metrics)
        except InputError as error:
            log.warning("%s", error)
            picture = None
        write_table(grid.table, data, rows, picture)
    if console is not None:
        console.print(in_terminal(rows, metrics, str(with_suffix(grid.table, ".md"))))
    return data


def _tell(outcome: Outcome) -> None:
    what = f"{outcome.cell.row}, seed {outcome.cell.seed}" if outcome.cell.seed is not None else outcome.cell.row
    if outcome.failed:
        log.error("%s: failed: %s", what, outcome.failed)
    elif outcome.reused:
        log.info("%s: there already", what)
    else:
        log.info("%s: %.0f s", what, outcome.seconds or 0.0)


def _refuse_what_cannot_be_composed(grid: Grid) -> None:
    """See before the first run whether the settings of every row exist; cells of other seeds differ in nothing else.

    Raises:
        InputError: they do not; the message names the row and the setting.
    """
    register_resolvers()
    cells = grid.cells()
    with initialize_config_dir(str(config_folder()), version_base=None):
        for cell in (one for one in cells if one.seed == cells[0].seed):
            try:
                compose("train", [*cell.overrides, "paths.run=run"])
            except (HydraException, OmegaConfBaseException) as error:
                raise InputError(f"{cell.row}: {describe_compose_error(error)}") from error
