"""Tasks as job arrays of a Slurm cluster."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clep.compute import slurm_queue
from clep.compute.attempts import Attempts, Regularly
from clep.compute.slurm_run import SlurmRun
from clep.compute.stopped import ends_in_order
from clep.errors import InputError


class Slurm:
    """Runs tasks as members of job arrays, by submitit, and waits for them: start it where it may stay, in tmux say.

    Nodes and the process that waits share a disk with the log folder, and nothing else: no connection, no accounting
    database. The nodes use this Python, in the same place.

    Args:
        partition: None: the cluster's default one. Likewise the account.
        account: who pays.
        time_min: minutes that a task may take.
        gpus: of a task; 0 asks for none.
        cpus: of a task.
        mem_gb: of a task. None: what the cluster gives for that many CPUs.
        constraint: features that a node must have, e.g. "a100|h100".
        max_parallel: members of one array that run at once.
        retries: how often a task that raised, died, was preempted or took too long is submitted again.
        setup: lines of shell before the task, e.g. "module load cuda".
        extra: further options of sbatch by their long names, e.g. {"qos": "low"}; true for one without a value.
        poll_s: seconds between two looks at the queue.

    Raises:
        InputError: a number is out of range.
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
            raise InputError(f"setup={setup!r} should be a list of lines")
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
        """Call `function(payload)` once for every task, as `Local.run` does; only what differs is said here.

        Args:
            function: defined in a module that the nodes can import.
            tasks: name → payload. Relative paths in them start where this process was started.
            log_folder: on a disk that all nodes share; what submitit writes goes to `submitit/` in it.
            watch: called by this thread.

        Returns:
            Task → reason: Slurm's state, how the job ended, its log.

        Raises:
            InputError: this is no machine of a Slurm cluster, submitit is not installed, or Slurm refuses the jobs.
            KeyboardInterrupt: Ctrl-C; the jobs are cancelled. Likewise `Stopped`, after SIGTERM or SIGHUP.
        """
        missing = slurm_queue.first_missing(["sbatch", "srun", "squeue", "scancel"])
        if missing is not None:
            raise InputError(
                f"there is no {missing!r} on PATH: start this on a login node of a Slurm cluster, "
                f"or choose compute=local"
            )
        folder = Path(log_folder).absolute()
        submission = folder / "submitit"
        try:
            submission.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        name = f"clep-{uuid.uuid4().hex[:8]}"
        attempts = Attempts(tasks, self.retries)
        run = SlurmRun(self._executor(submission, name), name, self.time_min, function, tasks, folder, attempts)
        regularly = Regularly(watch)
        with ends_in_order():
            try:
                run.submit()
                poll = Regularly(run.poll, self.poll_s)
                while run.unfinished():
                    time.sleep(min(regularly.left(), poll.left(), 1.0))
                    run.collect()
                    poll.call_if_due()
                    regularly.call_if_due()
            except BaseException:
                run.cancel()
                raise
        regularly.call()
        return attempts.failures

    def _executor(self, folder: Path, job_name: str) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise InputError("compute=slurm needs submitit: pip install 'clep[slurm]'") from error
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        # A job that Slurm itself puts back into the queue may be held there forever; here each attempt is counted.
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
            # Since Slurm 22.05 srun does not take this from sbatch, and would bind the task to one core.
            slurm_srun_args=[f"--cpus-per-task={self.cpus}"],
            slurm_additional_parameters=extra,
        )
        return executor
