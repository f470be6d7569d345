"""Where work runs: tasks of similar cost, on the processes of this machine or on a Slurm cluster."""

from clep.compute.balance import cut_into_shards
from clep.compute.late_files import wait_for_files
from clep.compute.local import Local
from clep.compute.shutdown import Stopped, graceful_shutdown
from clep.compute.slurm import Slurm

__all__ = ["Local", "Slurm", "Stopped", "cut_into_shards", "graceful_shutdown", "wait_for_files"]
