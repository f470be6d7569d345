import os
import subprocess
from types import SimpleNamespace

import pytest
import torch

from clep import machine


def test_this_machine_in_words() -> None:
    here = machine.this_machine()
    assert here["cores"] <= (os.cpu_count() or 1)
    assert machine.in_words(here | {"cpu": "X", "cores": 2, "gpu": None}) == "2 cores (X)"
    assert machine.in_words(here | {"cpu": "X", "cores": 2, "gpu": "H100"}) == "2 cores (X) and H100"


def test_the_gpu_is_asked_for_by_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: pytest.fail("this process would hold the GPU"))
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: SimpleNamespace(stdout="NVIDIA H100\n"))
    machine.this_machine.cache_clear()
    try:
        assert machine.this_machine()["gpu"] == "NVIDIA H100"
    finally:
        machine.this_machine.cache_clear()
