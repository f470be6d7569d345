"""What configs can compute: `${clep.run_id:}`, `${clep.precision:auto}`, `${clep.slug:NAME}`."""

import os
from datetime import datetime

import torch
from omegaconf import OmegaConf

from clep.text import sentence_model_name


def register_resolvers() -> None:
    """Make the resolvers known to OmegaConf; calling it again does nothing new."""
    OmegaConf.register_new_resolver("clep.run_id", run_id, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("clep.precision", precision, replace=True)
    OmegaConf.register_new_resolver("clep.slug", sentence_model_name, replace=True)


def run_id() -> str:
    """Return a name for this run that is the same in every process of it.

    `CLEP_RUN_ID` decides where it is set. Processes that Slurm or torchrun started together have the job and step, or
    the port they meet at and the day, in common; a process alone takes the time.
    """
    environment = os.environ
    if environment.get("CLEP_RUN_ID"):
        return environment["CLEP_RUN_ID"]
    if int(environment.get("SLURM_NTASKS", 1)) > 1:
        parts = (environment.get(f"SLURM_{part}") for part in ("JOB_ID", "ARRAY_TASK_ID", "STEP_ID"))
        return "slurm-" + "-".join(part for part in parts if part)
    if "TORCHELASTIC_RUN_ID" in environment:
        name = environment["TORCHELASTIC_RUN_ID"]
        return f"torchrun-{name if name != 'none' else environment['MASTER_PORT']}-{datetime.now():%Y-%m-%d}"
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def precision(choice: str | int, accelerator: str = "auto") -> str | int:
    """Return the trainer's precision: for "auto" bfloat16 where a GPU computes in it, else float32."""
    if choice != "auto":
        return choice
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(False) else "32-true"
