"""The jobs of one run on a Slurm cluster: submitted, looked after, submitted again where they failed."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.compute import slurm_queue
from clep.compute.attempts import Attempts, Outcome, log_path
from clep.compute.slurm_queue import JobState
from clep.compute.slurm_task import SlurmTask, read_outcome
from clep.errors import InputError

logger = logging.getLogger(__name__)

# Slurm's default of MaxArraySize is 1001. More tasks wait here until there is room.
_MOST_AT_ONCE = 1000
# A result may reach the login node some seconds after Slurm says that the job is over: disks of a cluster cache.
_GRACE_S = 20.0


@dataclass
class _Job:
    task: str
    outcome: Path
    submission_log: Path
    over_since: float | None = None


class SlurmRun:
    """The jobs of one call of `Slurm.run`.

    Arguments:
        executor: of submitit, with all options set.
        name: what the jobs are called. No others have it, so that even one that was submitted while Ctrl-C came can be
            cancelled by it.
        time_min: the time limit, for messages.
        function, tasks, folder: as for `Slurm.run`.
        attempts: which tasks wait and which failed.
    """

    def __init__(
        self,
        executor: Any,
        name: str,
        time_min: int,
        function: Callable[[Any], Any],
        tasks: Mapping[str, Any],
        folder: Path,
        attempts: Attempts,
    ) -> None:
        self.attempts = attempts
        self._executor = executor
        self._name = name
        self._time_min = time_min
        self._function = function
        self._tasks = tasks
        self._folder = folder
        self._outcomes = Path(executor.folder) / name
        self._jobs: dict[str, _Job] = {}
        self._told: tuple[str, ...] = ()
        self._accepted = False  # the first array was
        self._submitting = False

    def unfinished(self) -> bool:
        """Whether a task runs or waits."""
        return bool(self._jobs or self.attempts.waiting)

    def submit(self) -> None:
        """Submit what waits, as far as there is room, as one array.

        Raises:
            InputError: Slurm refuses the first array. A later one that it refuses counts as a failed attempt.
        """
        import cloudpickle
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        room = _MOST_AT_ONCE - len(self._jobs)
        names = [self.attempts.take() for _ in range(min(room, len(self.attempts.waiting)))]
        if not names:
            return
        self._outcomes.mkdir(exist_ok=True)
        calls = [
            SlurmTask(
                pickled=cloudpickle.dumps((self._function, self._tasks[name])),
                log=log_path(self._folder, name),
                outcome=self._outcomes / f"{log_path(Path(), name).stem}.{self.attempts.number(name)}.json",
                time_min=self._time_min,
                folder=Path.cwd(),
            )
            for name in names
        ]
        try:
            self._submitting = True
            with _outside_of_any_job():
                jobs = self._executor.submit_array(calls)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            self._submitting = False
            told = " ".join(str(error).split())
            if not self._accepted:
                raise InputError(f"Slurm refuses the jobs: {told}") from error
            for name in names:
                self.attempts.settle(name, Outcome(f"Slurm refused to take it again: {told}"))
            return
        self._accepted = True
        for job, name, call in zip(jobs, names, calls, strict=True):
            self._jobs[job.job_id] = _Job(name, call.outcome, job.paths.stdout)
        self._submitting = False
        logger.info("submitted %d tasks as Slurm job %s", len(jobs), jobs[0].job_id.partition("_")[0])

    def collect(self) -> None:
        """Settle the tasks whose outcome has arrived."""
        with contextlib.suppress(OSError):
            there = {entry.name for entry in os.scandir(self._outcomes)}
            for key, job in list(self._jobs.items()):
                if job.outcome.name in there and (outcome := read_outcome(job.outcome)) is not None:
                    if outcome.reason is not None and not outcome.final:
                        outcome = Outcome(f"{outcome.reason}; see {log_path(self._folder, job.task)}")
                    self._settle(key, outcome)

    def poll(self) -> None:
        """Look at the queue for jobs that ended without an outcome, and submit again what failed."""
        states = slurm_queue.queue()
        if states is None:
            logger.warning("Slurm does not answer when asked for the queue; it will be asked again")
            return
        self.collect()
        now = time.monotonic()
        for key, job in list(self._jobs.items()):
            state = states.get(key)
            if state is not None and not state.over:
                job.over_since = None
            elif job.over_since is None:
                job.over_since = now
            elif now - job.over_since >= _GRACE_S:
                self._settle(key, Outcome(f"{slurm_queue.ending(key)}; see {self._log_of(job)}"))
        self._tell([states[key] for key in self._jobs if key in states])
        self.submit()

    def cancel(self) -> None:
        """Cancel all jobs of this run that are not over."""
        if not self._jobs and not self._submitting:
            return
        if slurm_queue.cancel(self._name):
            logger.warning("cancelled the Slurm jobs called %s", self._name)
        else:
            logger.error("could not cancel the Slurm jobs: run `scancel --name=%s` yourself", self._name)

    def _settle(self, key: str, outcome: Outcome) -> None:
        job = self._jobs.pop(key)
        self.attempts.settle(job.task, outcome)

    def _log_of(self, job: _Job) -> Path:
        """Return the task's own log, or Slurm's where the task did not come so far as to open it."""
        own = log_path(self._folder, job.task)
        return own if own.exists() else job.submission_log

    def _tell(self, states: list[JobState]) -> None:
        """Log why jobs wait, when that changes."""
        reasons = tuple(sorted({state.reason for state in states if state.state == "PENDING"}))
        if reasons != self._told and reasons:
            logger.info("tasks that wait for Slurm do so because of: %s", ", ".join(reasons))
        self._told = reasons


@contextlib.contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Hide the variables of a job that this process may be part of: sbatch and srun would take them for options."""
    hidden = {}
    if "SLURM_JOB_ID" in os.environ:
        names = [name for name in os.environ if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_"))]
        hidden = {name: os.environ.pop(name) for name in names if name != "SLURM_CONF"}
    try:
        yield
    finally:
        os.environ.update(hidden)
