"""Query Slurm: states of jobs in the queue, and how jobs ended."""

import logging
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from clep.compute.attempts import describe_exit

logger = logging.getLogger(__name__)

# Final states of a job; a job in any other state may still run.
FINAL_STATES = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
_COMMAND_TIMEOUT_S = 60


@dataclass(frozen=True)
class JobState:
    """The state of a job in the queue.

    Attributes:
        state: Slurm's name of the state, e.g. "RUNNING".
        reason: Slurm's reason, e.g. "Resources" for a pending job.
    """

    state: str
    reason: str

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL_STATES


def queue() -> dict[str, JobState] | None:
    """Return the user's jobs in the queue, with those that ended recently; None if Slurm does not answer.

    Keys are job ids as in submitit: "12", or "12_3" for a member of an array.
    """
    printed = _output("squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", "%F|%K|%T|%r")
    return None if printed is None else parse_queue(printed)


def parse_queue(printed: str) -> dict[str, JobState]:
    """Parse lines `array id|member|state|reason`; the member is "N/A" for a job that is not an array."""
    jobs = {}
    for line in printed.splitlines():
        array, member, state, reason = (line.strip().split("|", 3) + [""] * 4)[:4]
        if state:
            jobs[f"{array}_{member}" if member.isdecimal() else array] = JobState(state.upper(), reason)
    return jobs


def query_ending(job: str) -> str:
    """Describe how a job ended: state, exit status or signal, node; from Slurm's controller or its accounting.

    A cluster without accounting forgets a job after some minutes; the message then says so.
    """
    printed = _output("scontrol", "show", "job", "-o", job)
    if printed is not None:
        values = dict(re.findall(r"(\w+)=(\S*)", printed))
        if "JobState" in values:
            return describe_ending(
                values["JobState"], values.get("Reason", ""), values.get("ExitCode", ""), values.get("BatchHost", "")
            )
    printed = _output("sacct", "-X", "-n", "-P", "-j", job, "-o", "State,Reason,ExitCode,NodeList")
    lines = (printed or "").strip().splitlines()
    if lines:
        return describe_ending(*(lines[0].split("|", 3) + [""] * 4)[:4])
    return "the job is no longer in Slurm's queue and left no result"


def describe_ending(state: str, reason: str, exit_code: str, node: str) -> str:
    """Describe how a job ended.

    Args:
        state: e.g. "FAILED", or "CANCELLED by 1000".
        reason: e.g. "NonZeroExitCode".
        exit_code: "status:signal", e.g. "1:0" or "0:9". A shell turns the signal n into the status 128 + n.
        node: the node on which it ran.
    """
    parts = [state]
    if reason not in ("", "None", "NonZeroExitCode") and not reason.startswith("RaisedSignal"):
        parts.append(reason)
    status, _, number = exit_code.partition(":")
    if number.isdecimal() and 0 < int(number) < signal.NSIG:  # not 125, Slurm's code for out of memory
        parts.append(describe_exit(-int(number)))
    elif status.isdecimal() and int(status):
        parts.append(describe_exit(128 - int(status) if int(status) > 128 else int(status)))
    if node not in ("", "(null)", "None assigned"):
        parts.append(f"on {node}")
    return ", ".join(parts)


def cancel(name: str) -> bool:
    """Cancel the user's jobs with a name; returns whether Slurm accepted."""
    return _output("scancel", "-u", str(os.getuid()), f"--name={name}") is not None


def _output(*command: str) -> str | None:
    """Return the output of a command; None if it is missing, fails, or takes too long."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("%s: %s", command[0], getattr(error, "stderr", None) or error)
        return None
    return done.stdout


def first_missing(commands: Sequence[str]) -> str | None:
    """Return the first of these commands that is not on PATH; None if all are."""
    return next((command for command in commands if shutil.which(command) is None), None)
