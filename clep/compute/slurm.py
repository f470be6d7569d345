"""Run tasks as job arrays on a Slurm cluster: options, the jobs of one run, and the task on its node."""

import contextlib
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clep.compute import slurm_queue
from clep.compute.attempts import (
    LOG_FORMAT,
    Attempts,
    Outcome,
    Periodic,
    attempt,
    call_pickled,
    log_path,
    write_output_to,
)
from clep.compute.shutdown import TIME_LIMIT_SIGNAL, Stopped, graceful_shutdown, raise_stopped
from clep.compute.slurm_queue import JobState
from clep.errors import InputError
from clep.files import make_folder, read_json, write_json

logger = logging.getLogger(__name__)

# Slurm's default of MaxArraySize is 1001; further tasks are submitted later.
_MOST_AT_ONCE = 1000
# Shared file systems cache: a result may become visible some seconds after Slurm reports the end of the job.
_GRACE_S = 20.0


class Slurm:
    """Runs tasks as members of job arrays, through submitit, and waits for them; start it in tmux or screen.

    Nodes and the waiting process communicate through the log folder only, without a network connection or Slurm's
    accounting. The nodes use the same Python at the same path.

    Args:
        partition: Slurm's partition; None for the cluster's default.
        account: the account to charge; None for the user's default.
        time_min: time limit of a task in minutes.
        gpus: GPUs per task.
        cpus: cores per task.
        mem_gb: memory per task; None for the cluster's default.
        constraint: required features of a node, e.g. "a100|h100".
        max_parallel: tasks of one array that run in parallel.
        retries: retries of a task that raised, died, was preempted or timed out.
        setup: shell lines before the task, e.g. "module load cuda".
        extra: further options of sbatch by their long names, e.g. {"qos": "low"}; true for an option without a value.
        poll_s: seconds between two queries of the queue.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        time_min: int = 240,
        gpus: int = 1,
        cpus: int = 8,
        mem_gb: float | int | None = None,
        constraint: str | None = None,
        max_parallel: int = 100,
        retries: int = 2,
        setup: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        poll_s: float | int = 15,
    ) -> None:
        least = {"time_min": 1, "gpus": 0, "cpus": 1, "max_parallel": 1, "retries": 0}
        given = (time_min, gpus, cpus, max_parallel, retries)
        for (name, low), value in zip(least.items(), given, strict=True):
            if value < low:
                raise InputError(f"{name}={value} must be at least {low}")
        if poll_s <= 0 or (mem_gb is not None and mem_gb <= 0):
            raise InputError(f"poll_s={poll_s} and mem_gb={mem_gb} must be above 0")
        if isinstance(setup, str):
            raise InputError(f"setup={setup!r} must be a list of lines")
        self.partition = partition
        self.account = account
        self.time_min = time_min
        self.gpus = gpus
        self.cpus = cpus
        self.mem_gb = mem_gb
        self.constraint = constraint
        self.max_parallel = max_parallel
        self.retries = retries
        self.setup = list(setup)
        self.extra = dict(extra or {})
        self.poll_s = poll_s

    def run(
        self,
        function: Callable[[Any], Any],
        tasks: Mapping[str, Any],
        log_folder: Path,
        watch: Callable[[], None] | None = None,
    ) -> dict[str, str]:
        """Call `function(payload)` for every task; see `Local.run`, only the differences are listed here.

        Args:
            function: defined in a module that the nodes can import.
            tasks: payload by task name. Relative paths in a payload are relative to this process's working folder.
            log_folder: folder of the logs, shared by all nodes; submitit's files go to `submitit/` in it.
            watch: called by this thread.

        Returns:
            Reason by name of the failed tasks: Slurm's state, how the job ended, its log.

        Raises:
            InputError: Slurm's commands or submitit are missing, or Slurm refuses the jobs.
            KeyboardInterrupt: Ctrl-C; all jobs are cancelled first.
            Stopped: SIGTERM or SIGHUP; all jobs are cancelled first.
        """
        missing = slurm_queue.first_missing(["sbatch", "srun", "squeue", "scancel"])
        if missing is not None:
            raise InputError(
                f"compute=slurm: there is no {missing!r} on PATH; run this on a login node of a Slurm cluster, or use "
                f"compute=local"
            )
        folder = Path(log_folder).absolute()
        submission = folder / "submitit"
        make_folder(submission)
        name = f"clep-{uuid.uuid4().hex[:8]}"
        attempts = Attempts(tasks, self.retries)
        run = SlurmRun(self._executor(submission, name), name, self.time_min, function, tasks, folder, attempts)
        watcher = Periodic(watch)
        with graceful_shutdown():
            try:
                run.submit()
                poll = Periodic(run.poll, self.poll_s)
                while run.unfinished():
                    time.sleep(min(watcher.time_left(), poll.time_left(), 1.0))
                    run.collect()
                    poll.call_if_due()
                    watcher.call_if_due()
            except BaseException:
                run.cancel()
                raise
        watcher.call()
        return attempts.failures

    def _executor(self, folder: Path, job_name: str) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise InputError("compute=slurm needs submitit: pip install 'clep[slurm]'") from error
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        # No requeueing by Slurm: a requeued job may be held forever, and its attempts are not counted.
        extra = ({} if "requeue" in self.extra else {"no-requeue": True}) | self.extra
        executor.update_parameters(
            name=job_name,
            timeout_min=self.time_min,
            cpus_per_task=self.cpus,
            gpus_per_node=self.gpus or None,
            mem_gb=self.mem_gb,
            stderr_to_stdout=True,
            slurm_partition=self.partition,
            slurm_account=self.account,
            slurm_constraint=self.constraint,
            slurm_array_parallelism=self.max_parallel,
            slurm_signal_delay_s=min(90, 6 * self.time_min),
            slurm_setup=[f"export OMP_NUM_THREADS={self.cpus} MKL_NUM_THREADS={self.cpus}", *self.setup],
            # Since Slurm 22.05 srun does not inherit this from sbatch, and would bind the task to one core.
            slurm_srun_args=[f"--cpus-per-task={self.cpus}"],
            slurm_additional_parameters=extra,
        )
        return executor


@dataclass
class _Job:
    task: str
    outcome: Path
    submission_log: Path
    over_since: float | None = None


class SlurmRun:
    """The jobs of one call of `Slurm.run`.

    Args:
        executor: submitit's executor with all options set.
        name: unique name of the jobs, by which they can be cancelled even after Ctrl-C during the submission.
        time_min: time limit, for messages.
        function, tasks, folder: as for `Slurm.run`.
        attempts: queue of tasks and failures.
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
        self._logged_reasons: tuple[str, ...] = ()
        self._accepted = False  # whether Slurm accepted the first array
        self._submitting = False

    def unfinished(self) -> bool:
        """Whether a task is running or waiting."""
        return bool(self._jobs or self.attempts.waiting)

    def submit(self) -> None:
        """Submit the waiting tasks as one array, up to the array limit.

        Raises:
            InputError: Slurm refuses the first array. If it refuses a later one, that is a failed attempt.
        """
        import cloudpickle
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        most = _MOST_AT_ONCE - len(self._jobs)
        names = [self.attempts.take() for _ in range(min(most, len(self.attempts.waiting)))]
        if not names:
            return
        self._outcomes.mkdir(exist_ok=True)
        calls = [
            SlurmTask(
                pickled=cloudpickle.dumps((self._function, self._tasks[name])),
                log=log_path(self._folder, name),
                outcome=self._outcomes / f"{log_path(Path(), name).stem}.{self.attempts.count(name)}.json",
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
            message = " ".join(str(error).split())
            if not self._accepted:
                raise InputError(f"Slurm refuses the jobs: {message}; correct the options of compute=slurm") from error
            for name in names:
                self.attempts.settle(name, Outcome(f"Slurm refused to submit it again: {message}"))
            return
        self._accepted = True
        for job, name, call in zip(jobs, names, calls, strict=True):
            self._jobs[job.job_id] = _Job(name, call.outcome, job.paths.stdout)
        self._submitting = False
        logger.info("submitted %d tasks as Slurm job %s", len(jobs), jobs[0].job_id.partition("_")[0])

    def collect(self) -> None:
        """Settle the tasks whose outcome has arrived."""
        with contextlib.suppress(OSError):
            written = {entry.name for entry in os.scandir(self._outcomes)}
            for key, job in list(self._jobs.items()):
                if job.outcome.name in written and (outcome := read_outcome(job.outcome)) is not None:
                    if outcome.reason is not None and not outcome.final:
                        outcome = Outcome(f"{outcome.reason}; see {log_path(self._folder, job.task)}")
                    self._settle(key, outcome)

    def poll(self) -> None:
        """Query the queue for jobs that ended without an outcome, and submit failed tasks again."""
        states = slurm_queue.queue()
        if states is None:
            logger.warning("Slurm does not answer squeue; trying again")
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
                self._settle(key, Outcome(f"{slurm_queue.query_ending(key)}; see {self._log_of(job)}"))
        self._log_pending([states[key] for key in self._jobs if key in states])
        self.submit()

    def cancel(self) -> None:
        """Cancel all unfinished jobs of this run."""
        if not self._jobs and not self._submitting:
            return
        if slurm_queue.cancel(self._name):
            logger.warning("cancelled the Slurm jobs named %s", self._name)
        else:
            logger.error("could not cancel the Slurm jobs: run `scancel --name=%s` yourself", self._name)

    def _settle(self, key: str, outcome: Outcome) -> None:
        job = self._jobs.pop(key)
        self.attempts.settle(job.task, outcome)

    def _log_of(self, job: _Job) -> Path:
        """Return the task's log, or Slurm's log if the task ended before it opened its own."""
        own = log_path(self._folder, job.task)
        return own if own.exists() else job.submission_log

    def _log_pending(self, states: list[JobState]) -> None:
        """Log the reasons of pending jobs whenever they change."""
        reasons = tuple(sorted({state.reason for state in states if state.state == "PENDING"}))
        if reasons != self._logged_reasons and reasons:
            logger.info("tasks are pending: %s", ", ".join(reasons))
        self._logged_reasons = reasons


@contextlib.contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Hide the environment variables of a job that this process may run in: sbatch would read them as options."""
    hidden = {}
    if "SLURM_JOB_ID" in os.environ:
        names = [name for name in os.environ if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_"))]
        hidden = {name: os.environ.pop(name) for name in names if name != "SLURM_CONF"}
    try:
        yield
    finally:
        os.environ.update(hidden)


@dataclass(frozen=True)
class SlurmTask:
    """One attempt at a task; submitit pickles it and calls it on the node.

    Attributes:
        pickled: the function and its payload. Unpickled inside the attempt, so that a module missing on the node is
            reported as a failure.
        log: the task's log file, on a shared disk.
        outcome: file for the outcome, on a shared disk.
        time_min: time limit, for messages.
        folder: working folder of the command, the base of relative paths.
    """

    pickled: bytes
    log: Path
    outcome: Path
    time_min: int
    folder: Path

    def __call__(self) -> None:
        """Run the task and write its outcome; exit with status 1 if it failed, so that Slurm's state is FAILED."""
        write_output_to(self.log)
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr, force=True)
        # submitit's handlers ignore SIGTERM until Slurm kills the job, and requeue a preempted job.
        signal.signal(signal.SIGTERM, raise_stopped)
        signal.signal(TIME_LIMIT_SIGNAL, raise_stopped)
        try:
            outcome = attempt(self._call_in_folder, None)
            if outcome.final:
                logger.error("%s", outcome.reason)
        except Stopped as stopped:
            if not stopped.at_time_limit:
                raise  # Slurm reports the reason: cancelled, preempted, node failure
            outcome = Outcome(f"the time limit of time_min={self.time_min} was reached")
        write_json(self.outcome, asdict(outcome))
        if outcome.reason is not None:
            raise SystemExit(1)

    def _call_in_folder(self, _: None) -> None:
        os.chdir(self.folder)
        call_pickled(self.pickled)


def read_outcome(path: Path) -> Outcome | None:
    """Return the outcome that a node wrote; None if it cannot be read yet."""
    try:
        return Outcome(**read_json(path))
    except (InputError, TypeError):
        return None
