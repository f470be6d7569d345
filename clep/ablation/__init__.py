"""Ablations: the grid of settings and seeds, its training runs, and the table; the command is `clep.ablate`."""

from typing import TYPE_CHECKING, Any

from clep.ablation.grid import Cell, Grid, read_grid

if TYPE_CHECKING:
    from clep.ablation.sweep_table import SweepTable

__all__ = ["Cell", "Grid", "SweepTable", "read_grid"]


def __getattr__(name: str) -> Any:
    # Imported on first use: a process that only starts trainings must not wait for Lightning.
    if name == "SweepTable":
        from clep.ablation.sweep_table import SweepTable

        return SweepTable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
