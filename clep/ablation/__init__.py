"""Ablations: train a grid of settings over seeds, one run a cell, and put what each buys and costs into a table."""

from clep.ablation.grid import Cell, Grid, read_grid
from clep.ablation.study import ablate

__all__ = ["Cell", "Grid", "ablate", "read_grid"]
