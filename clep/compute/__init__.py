"""Run tasks on processes of this machine or on a Slurm cluster; file locks; graceful shutdown."""

from clep.compute.local import Local
from clep.compute.shutdown import Stopped, graceful_shutdown
from clep.compute.slurm import Slurm

__all__ = ["Local", "Slurm", "Stopped", "graceful_shutdown"]
