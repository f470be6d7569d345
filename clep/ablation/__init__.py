"""Ablations: the grid of settings and seeds, its training runs, and the table; the command is `clep.ablate`."""

from clep.ablation.grid import Cell, Grid, read_grid

__all__ = ["Cell", "Grid", "read_grid"]
