"""Where work runs: tasks of similar cost, on the processes of this machine or on a Slurm cluster."""

from clep.compute.balance import cut_into_shards
from clep.compute.local import Local
from clep.compute.slurm import Slurm

__all__ = ["Local", "Slurm", "cut_into_shards"]
