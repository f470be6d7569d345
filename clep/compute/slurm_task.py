"""What runs on a node of the cluster: one attempt at a task, whose outcome goes to a file."""

import logging
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from clep.compute.attempts import LOG_FORMAT, Outcome, attempt, call_pickled, write_output_to
from clep.compute.stopped import TIME_IS_OVER, Stopped, raise_stopped
from clep.errors import InputError
from clep.files import read_json, write_json


@dataclass(frozen=True)
class SlurmTask:
    """One attempt at a task, as submitit pickles it and calls it on the node.

    Attributes:
        pickled: the function and its payload. Unpickled within the attempt, so that a module that is missing on the
            node is a failure with a reason.
        log: the task's log file, on a disk that all nodes share.
        outcome: file for the outcome, likewise.
        time_min: the time limit, for messages.
        folder: where the command was given; relative paths start there, wherever Slurm starts the task.
    """

    pickled: bytes
    log: Path
    outcome: Path
    time_min: int
    folder: Path

    def __call__(self) -> None:
        """Run the task, write its outcome, and end with status 1 where it failed, so that Slurm counts it as FAILED."""
        write_output_to(self.log)
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr, force=True)
        # submitit's own handlers put up with SIGTERM until Slurm kills, and send a preempted job back to the queue.
        signal.signal(signal.SIGTERM, raise_stopped)
        signal.signal(TIME_IS_OVER, raise_stopped)
        try:
            outcome = attempt(self._call_in_folder, None)
        except Stopped as stopped:
            if not stopped.time_is_over:
                raise  # Slurm knows why: cancelled, preempted, node failure
            outcome = Outcome(f"the time limit of time_min={self.time_min} was reached")
        write_json(self.outcome, asdict(outcome))
        if outcome.reason is not None:
            raise SystemExit(1)

    def _call_in_folder(self, _: None) -> None:
        os.chdir(self.folder)
        call_pickled(self.pickled)


def read_outcome(path: Path) -> Outcome | None:
    """Return the outcome that a node wrote; None where it cannot be read (yet)."""
    try:
        return Outcome(**read_json(path))
    except (InputError, TypeError):
        return None
