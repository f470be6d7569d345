"""The cluster of the Slurm tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import slurm_cluster


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    reason = slurm_cluster.why_not()
    if reason is not None:
        pytest.skip(reason)
    base = tmp_path_factory.getbasetemp()
    with slurm_cluster.shared_cluster(base if worker_id == "master" else base.parent) as conf:
        yield conf


@pytest.fixture
def cluster(_cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A running Slurm, which the test's commands reach, and whose nodes can import the tests."""
    monkeypatch.setenv("SLURM_CONF", str(_cluster))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return _cluster
