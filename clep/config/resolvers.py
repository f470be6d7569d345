"""OmegaConf resolvers of the configs.

`${clep.run_id:}`, `${clep.precision:auto}`, `${clep.slug:NAME}`, `${clep.stem:PATH}`,
`${clep.bank:FEATURES,VIDEOS,OUT}`.
"""

import os
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from clep.remote import is_remote, suffix, url_of
from clep.weights import sentence_model_name


def register_resolvers() -> None:
    """Register the resolvers with OmegaConf; calling it again changes nothing."""
    OmegaConf.register_new_resolver("clep.run_id", run_id, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("clep.precision", precision, replace=True)
    OmegaConf.register_new_resolver("clep.slug", lambda name: sentence_model_name(str(name)), replace=True)
    OmegaConf.register_new_resolver("clep.stem", lambda path: Path(str(path)).stem, replace=True)
    OmegaConf.register_new_resolver("clep.bank", bank_of, replace=True)


def run_id() -> str:
    """Return the name of this run: `shared_run_id`, else the time and, inside a Slurm job, the job.

    Several runs may follow each other inside a Slurm job of one task, and the tasks of an array start in the same
    second, so neither the time nor the job is enough there.
    """
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return shared_run_id() or "-slurm-".join([now, *([_slurm_job()] if _slurm_job() else [])])


def shared_run_id() -> str | None:
    """Return the name that all ranks of this training derive alike; None for a process that trains alone.

    `CLEP_RUN_ID` wins. Ranks that Slurm started share the job (of an array: its job and task) and the step; ranks that
    torchrun started share its run id, or the rendezvous port and the day.
    """
    environment = os.environ
    if environment.get("CLEP_RUN_ID"):
        return environment["CLEP_RUN_ID"]
    if int(environment.get("SLURM_NTASKS") or 1) > 1:
        return "-".join(part for part in ("slurm", _slurm_job(), environment.get("SLURM_STEP_ID")) if part)
    if "TORCHELASTIC_RUN_ID" in environment:
        name = environment["TORCHELASTIC_RUN_ID"]
        return f"torchrun-{name if name != 'none' else environment['MASTER_PORT']}-{datetime.now():%Y-%m-%d}"
    return None


def precision(choice: str | int, accelerator: str = "auto") -> str | int:
    """Return the trainer's precision: "auto" is bfloat16 where a GPU computes in it, else float32."""
    if choice != "auto":
        return choice
    import torch  # here, so that a list of jobs is shown without waiting for PyTorch

    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(False) else "32-true"


def bank_of(features: str | int | float | None, videos: str | int | float | None = None, out: str | None = None) -> str:
    """Return the path of the bank of a user's features, or of videos where they are given.

    A bank, or a folder of banks, is its own; feature files and videos have theirs beside their folder, or in `out`
    where that is remote. A remote file is a bank if its name ends in .h5.
    """
    source = str(videos or features or "")  # a name of digits is a number until it is quoted
    if is_remote(source):
        if not videos and suffix(source) in (".h5", ".hdf5"):
            return url_of(source)
        return str(Path(out or "") / f"{Path(source).stem}.bank.h5")
    if videos:
        folder = Path(str(videos))
        return str(folder.with_name(f"{folder.stem}.bank.h5"))
    path = Path(str(features or "features.h5"))
    if path.is_dir() and not any(_is_bank(one) for one in path.glob("*.h5")):
        return str(path.with_name(f"{path.name}.bank.h5"))
    return str(path)


def _is_bank(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9) == b"clep-bank"


def _slurm_job() -> str:
    """Return the Slurm job, of an array its job and task ("71-5"); empty outside Slurm."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    return "-".join(part for part in (job, os.environ.get("SLURM_ARRAY_TASK_ID")) if part and job)
