"""Several processes split an evaluation and get exactly what one process gets."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed, multiprocessing

from clep.evaluation import EgoCharadesZeroShot, Evaluator, KineticsZeroShot, NarrationRetrieval
from clep.evaluation import evaluator as ranks
from tests.evaluation.tiny_clips import WORDS, model_for, write_ego_charades, write_kinetics
from tests.tiny_source import tiny_source, write_tiny_files

COUNTS = (1, 2, 7, 8)


def evaluators(folder: Path) -> dict[str, Evaluator]:
    return {
        "kinetics": KineticsZeroShot(str(folder / "kinetics"), WORDS, batch_size=5),
        "ego_charades": EgoCharadesZeroShot(str(folder / "ego_charades"), WORDS, batch_size=5),
        "retrieval": NarrationRetrieval(tiny_source(folder / "moments", val_fraction=0.3), size=31, batch_size=5),
    }


def measure(folder: Path) -> dict[str, Any]:
    """What one process sees: metrics and coverage of every evaluator, and rows gathered from all shares."""
    found: dict[str, Any] = {}
    for name, evaluator in evaluators(folder).items():
        found[name] = [evaluator.run(model_for()), evaluator.coverage]
    for count in COUNTS:
        share = ranks.my_share(count)
        rows = torch.stack([share.float(), -share.float()], dim=1)
        found[f"gathered {count}"] = ranks.gather_shares(rows, count).tolist()
    return found


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = measure(Path(folder))
    encoded = []
    evaluators(Path(folder))["kinetics"].encode(
        7, lambda which: (encoded.extend(which.tolist()), which[:, None] + 0.5)[1]
    )
    Path(folder, f"{rank}.json").write_text(json.dumps({**found, "encoded": encoded}))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every evaluator, and what two gloo processes measured on them."""
    folder = tmp_path_factory.mktemp("ranks")
    write_kinetics(folder / "kinetics")
    write_ego_charades(folder / "ego_charades")
    write_tiny_files(folder / "moments")
    multiprocessing.start_processes(run_rank, args=(str(folder),), nprocs=2, start_method="forkserver")
    return folder


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_get_exactly_what_one_gets(folder: Path, rank: int) -> None:
    found = json.loads((folder / f"{rank}.json").read_text())
    one = json.loads(json.dumps(measure(folder)))
    found.pop("encoded")
    assert found == one
    assert len(one["kinetics"][0]) == 2
    assert len(one["ego_charades"][0]) == 9
    assert len(one["retrieval"][0]) == 10


def test_each_process_encodes_only_its_share(folder: Path) -> None:
    encoded = [json.loads((folder / f"{rank}.json").read_text())["encoded"] for rank in (0, 1)]
    assert encoded == [[0, 1, 2], [3, 4, 5, 6]]


def test_one_process_has_everything() -> None:
    assert ranks.my_share(5).tolist() == [0, 1, 2, 3, 4]
    rows = torch.randn(5, 3)
    assert torch.equal(ranks.gather_shares(rows, 5), rows)


@given(count=st.integers(0, 50), world_size=st.integers(1, 9))
def test_shares_are_a_partition_in_order(count: int, world_size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shares = []
        for rank in range(world_size):
            patch.setattr(ranks, "_ranks", lambda rank=rank: (rank, world_size))
            shares.append(ranks.my_share(count).tolist())
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
