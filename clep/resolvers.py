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

    Processes that a cluster or torchrun started learn it from their environment; else it is the time.
    """
    for variable in ("CLEP_RUN_ID", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"):
        value = os.environ.get(variable)
        if value and value != "none":
            task = os.environ.get("SLURM_ARRAY_TASK_ID", "")
            return f"{value}_{task}" if task and variable == "SLURM_JOB_ID" else value
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def precision(choice: str) -> str:
    """Return the trainer's precision: for "auto" bfloat16 where a GPU computes in it, else float32."""
    if choice != "auto":
        return choice
    return "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(False) else "32-true"
