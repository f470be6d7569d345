"""Ablations: the grid of settings and seeds, its training runs, and the table; the command is `clep.ablate`."""

from clep.ablation.grid import Cell, Grid, read_grid
from clep.ablation.sweep_table import SweepTable

__all__ = ["Cell", "Grid", "SweepTable", "read_grid"]
