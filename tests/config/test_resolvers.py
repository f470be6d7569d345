import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from clep.config.resolvers import precision, register_resolvers, run_id

VARIABLES = (
    "CLEP_RUN_ID",
    "TORCHELASTIC_RUN_ID",
    "MASTER_PORT",
    *(f"SLURM_{part}" for part in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "STEP_ID", "NTASKS")),
)
TIME = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
TORCHRUN = {"TORCHELASTIC_RUN_ID": "abc", "MASTER_PORT": "29500"}
SLURM = {"SLURM_JOB_ID": "71", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}
ARRAY = {**SLURM, "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "5"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, TIME),
        ({**SLURM, "SLURM_NTASKS": "1"}, rf"{TIME}-slurm-71"),  # several runs may follow one another in such a job
        ({**ARRAY, "SLURM_NTASKS": "1"}, rf"{TIME}-slurm-70-5"),
        ({**ARRAY, "SLURM_NTASKS": ""}, rf"{TIME}-slurm-70-5"),
        (SLURM, "slurm-71-0"),
        ({**SLURM, "SLURM_STEP_ID": "1"}, "slurm-71-1"),
        (ARRAY, "slurm-70-5-0"),
        (TORCHRUN, r"torchrun-abc-\d{4}-\d\d-\d\d"),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"}, r"torchrun-29500-\d{4}-\d\d-\d\d"),
        ({**TORCHRUN, **SLURM, "CLEP_RUN_ID": "mine"}, "mine"),
        ({**SLURM, "CLEP_RUN_ID": ""}, "slurm-71-0"),
    ],
)
def test_a_run_is_named_by_what_its_processes_have_in_common_else_by_its_time(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert re.fullmatch(expected, run_id())


@pytest.mark.parametrize(
    ("gpu", "bf16", "expected"), [(True, True, "bf16-mixed"), (True, False, "32-true"), (False, True, "32-true")]
)
def test_auto_is_bf16_where_a_gpu_computes_in_it(
    gpu: bool, bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    assert precision("auto") == precision("auto", "gpu") == expected
    assert precision("auto", "cpu") == "32-true"
    assert precision("16-mixed") == "16-mixed"
    assert precision(32) == 32


def test_configs_can_use_them(tmp_path: Path) -> None:
    register_resolvers()
    register_resolvers()
    (tmp_path / "my model").mkdir()
    config = OmegaConf.create(
        {
            "choice": "64-true",
            "precision": "${clep.precision:${choice}}",
            "hub": "${clep.slug:sentence-transformers/all-mpnet-base-v2}",
            "other": "${clep.slug:${name}}",
            "name": "org/some-model",
            "folder": f"${{clep.slug:'{tmp_path / 'my model'}'}}",
            "one": "${clep.run_id:}",
            "two": "${clep.run_id:}",
        }
    )
    found = OmegaConf.to_container(config, resolve=True)
    assert found["precision"] == "64-true"
    assert (found["hub"], found["other"], found["folder"]) == ("all-mpnet-base-v2", "org--some-model", "my-model")
    assert found["one"] == found["two"]


def test_a_run_has_one_name_even_if_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is read once a config, not each time that the config is read."""
    register_resolvers()
    config = OmegaConf.create({"a": "${clep.run_id:}"})
    first = config.a
    monkeypatch.setenv("CLEP_RUN_ID", "later")
    assert config.a == first
    assert OmegaConf.create({"a": "${clep.run_id:}"}).a == "later"
