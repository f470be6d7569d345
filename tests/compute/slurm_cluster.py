"""A real Slurm cluster of one node, this machine, in a temporary folder: for tests only, and only as root."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "runuser")

CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Reason why a cluster cannot be started here; None if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)}): apt-get install slurm-wlm munge"
    return None if os.getuid() == 0 else "starting a Slurm cluster for the tests needs root"


@contextmanager
def shared_cluster(shared: Path) -> Iterator[Path]:
    """Yield the slurm.conf of a running cluster that all processes with the same `shared` folder use.

    The first to come starts it, the last to go ends it.
    """
    with _state(shared) as state:
        if not state.get("users"):
            state.update(_start())
        state["users"] = state.get("users", 0) + 1
    try:
        yield Path(state["conf"])
    finally:
        with _state(shared) as state:
            state["users"] -= 1
            if not state["users"]:
                _stop(state)
                state.clear()


@contextmanager
def _state(shared: Path) -> Iterator[dict]:
    with (shared / "slurm.lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or "{}")
        yield state
        file.seek(0)
        file.truncate()
        file.write(json.dumps(state))


def _start() -> dict:
    # A socket's path has 107 characters at most, and munge's user must be able to enter the folder.
    base = Path(tempfile.gettempdir())
    private = any(not parent.stat().st_mode & 0o001 for parent in (base, *base.parents))
    folder = Path(tempfile.mkdtemp(prefix="clep-slurm-", dir="/tmp" if private else base))
    folder.chmod(0o755)
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    for path in (key.parent, key):
        shutil.chown(path, "munge", "munge")
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=socket.gethostname().partition(".")[0], ports=_free_ports(2), folder=folder))
    munge = folder / "munge"
    names = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munged = ["munged", "--foreground", *(f"--{option}={munge / name}" for option, name in names.items())]
    state = {
        "conf": str(conf),
        "folder": str(folder),
        "pids": [_daemon(["runuser", "-u", "munge", "--", *munged], conf)],
    }
    try:
        _wait_until((munge / "socket").exists, folder)
        state["pids"] += [_daemon(["slurmctld", "-D"], conf), _daemon(["slurmd", "-D"], conf)]
        _wait_until(lambda: _node_is_idle(conf), folder)
    except BaseException:
        _stop(state)
        raise
    return state


def _daemon(command: list[str], conf: Path) -> int:
    environment = os.environ | {"SLURM_CONF": str(conf)}
    with (conf.parent / f"{Path(command[0]).name}.out").open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    return process.pid


def _node_is_idle(conf: Path) -> bool:
    command = ["sinfo", "-h", "-o", "%T"]
    answer = subprocess.run(command, env=os.environ | {"SLURM_CONF": str(conf)}, capture_output=True, text=True)
    return answer.stdout.strip() == "idle"


def _wait_until(ready, folder: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            answer = "\n".join(
                f"{path.name}: {path.read_text()[-500:]}" for path in sorted(folder.glob("*.[lo][ou][gt]"))
            )
            raise RuntimeError(f"the Slurm cluster does not start:\n{answer}")
        time.sleep(0.1)


def _stop(state: dict) -> None:
    environment = os.environ | {"SLURM_CONF": state["conf"]}
    subprocess.run(["scancel", "--full", "--signal=KILL", "-u", "0"], env=environment, capture_output=True, timeout=30)
    for pid in reversed(state["pids"]):
        try:
            os.killpg(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(_runs(pid) for pid in state["pids"]):
        time.sleep(0.05)
    for pid in state["pids"]:
        if _runs(pid):
            os.killpg(pid, signal.SIGKILL)
    shutil.rmtree(state["folder"], ignore_errors=True)


def _runs(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # reaps a child of this process
    return Path(f"/proc/{pid}").exists()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
