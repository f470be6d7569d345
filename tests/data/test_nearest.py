import numpy as np
import pytest
import torch

from clep.data.hard_negatives import nearest_videos, queries_at_once


@pytest.mark.parametrize("at_once", [1, 4 * 50 * 7, 2**26])
def test_chunks_find_what_sorting_all_finds(at_once: int) -> None:
    embeddings = torch.nn.functional.normalize(
        torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).double(), dim=1
    )
    group = torch.arange(50) % 2
    found = torch.full((50, 10), -5, dtype=torch.int32)
    for queries in (range(0, 20), range(20, 50)):
        for chunk, near in nearest_videos(embeddings, group, 10, queries, at_once):
            found[chunk] = near
    similarity = (embeddings @ embeddings.T).numpy()
    for video in range(50):
        others = [v for v in np.argsort(-similarity[video]) if v % 2 == video % 2 and v != video]
        assert found[video].tolist() == [video, *others[:9]]


def test_a_small_group_has_few_neighbours() -> None:
    embeddings, group = torch.eye(5), torch.tensor([0, 0, 1, 1, 1])
    ((_, near),) = nearest_videos(embeddings, group, 8, range(5))
    assert [sorted(row.tolist()) for row in near] == [[-1] * 6 + [0, 1]] * 2 + [[-1] * 5 + [2, 3, 4]] * 3
    assert near[:, 0].tolist() == list(range(5))


def test_memory_of_a_chunk() -> None:
    assert queries_at_once(10_000, 64 * 2**20) == 1677
    assert queries_at_once(10**9, 64 * 2**20) == 1
