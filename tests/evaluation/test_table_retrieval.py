"""Retrieval on a table of pairs, against loops over queries."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from clep.errors import InputError
from clep.evaluation import TableRetrieval
from clep.evaluation.details import query_keys
from clep.metrics import retrieval_from_pairs, retrieval_metrics
from clep.models import DualEncoder
from tests.evaluation.tiny_benchmarks import similarity, write_rows, write_sentences
from tests.evaluation.tiny_clips import model_for

CLIPS = [f"c{i:02d}" for i in range(12)]
SENTENCES = [f"does {i}" for i in range(7)]


def by_loops(scores: np.ndarray, positives: np.ndarray) -> dict[str, float]:
    """Compute the metrics of each query from its ranking."""
    ranks, precisions = [], []
    for row, right in zip(scores, positives, strict=True):
        order = np.argsort(-row).tolist()
        positions = [position for position, answer in enumerate(order, start=1) if right[answer]]
        ranks.append(positions[0])
        precisions.append(np.mean([hits / position for hits, position in enumerate(positions, start=1)]))
    recall = {f"r{k}": 100 * np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)}
    others = {"median_rank": np.median(ranks), "mean_rank": np.mean(ranks), "mAP": 100 * np.mean(precisions)}
    return {name: pytest.approx(value) for name, value in (recall | others).items()}


def pairs_for(random: np.random.Generator) -> np.ndarray:
    """Draw a mask of the clips of each sentence: several each way, at least one for every sentence and clip."""
    mask = random.random((len(SENTENCES), len(CLIPS))) < 0.2
    mask[np.arange(len(CLIPS)) % len(SENTENCES), np.arange(len(CLIPS))] = True
    return mask


def scores(model: DualEncoder, rows: dict, texts: dict) -> np.ndarray:
    return np.array([[similarity(model, rows[clip], texts[one]) for clip in rows] for one in texts])


def expected(model: DualEncoder, rows: dict, texts: dict, mask: np.ndarray) -> dict[str, float]:
    of_pairs = scores(model, rows, texts)
    sides = {"t2v": by_loops(of_pairs, mask), "v2t": by_loops(of_pairs.T, mask.T)}
    return {f"retrieval/mine/{side}/{name}": value for side, found in sides.items() for name, value in found.items()}


@pytest.mark.parametrize("joined", [True, False])
def test_equals_loops_over_queries(tmp_path: Path, joined: bool) -> None:
    random, model = np.random.default_rng(0), model_for()
    mask = pairs_for(random)
    if joined:
        pairs = [(text, "|".join(np.array(CLIPS)[row])) for text, row in zip(SENTENCES, mask, strict=True)]
    else:
        pairs = [(SENTENCES[i], CLIPS[j]) for i, j in np.argwhere(mask)]
        pairs.append(pairs[3])
    pd.DataFrame(pairs, columns=["caption", "clip"]).to_parquet(tmp_path / "q.parquet")
    rows = write_rows(tmp_path / "features.h5", CLIPS, random)
    texts = write_sentences(tmp_path / "sentences.h5", SENTENCES, random)
    paths = [tmp_path / name for name in ("q.parquet", "features.h5", "sentences.h5")]
    one = TableRetrieval(*paths, columns={"query": "caption"}, name="mine", batch_size=5)
    assert one.run(model) == expected(model, rows, texts, mask)
    assert (one.coverage["pairs"], one.coverage["repeated pairs"]) == (mask.sum(), 0 if joined else 1)
    one.run(model, details=True)
    t2v, precision, v2t, _ = one.details
    of_loops = dict(zip(precision.key.tolist(), precision.value[:, 0].tolist(), strict=True))
    found = [of_loops[key] for key in query_keys(SENTENCES).tolist()]
    assert found == pytest.approx(
        [
            by_loops(row[None], right[None])["mAP"].expected
            for row, right in zip(scores(model, rows, texts), mask, strict=True)
        ]
    )
    assert (t2v.name, t2v.queries, v2t.name, v2t.queries) == ("retrieval/mine/t2v", 7, "retrieval/mine/v2t", 12)
    assert (t2v.answers.tolist(), v2t.answers.tolist()) == ([12] * 7, [7] * 12)
    assert (sorted(t2v.right), sorted(v2t.right)) == (sorted(mask.sum(1)), sorted(mask.sum(0)))


def test_spans_of_videos_and_clips_without_features(tmp_path: Path) -> None:
    random, model = np.random.default_rng(1), model_for()
    rows = write_rows(tmp_path / "features.h5", ["film"], random, rows=4)["film"]
    names = ["a", "b", "c", "d", "gone"]
    texts = write_sentences(tmp_path / "sentences.h5", names, random)
    lines = [f"{name},film,{i},{i + 1}" for i, name in enumerate(names[:4])]
    (tmp_path / "q.csv").write_text("\n".join(["query,video,start,end", *lines, "gone,other,1,2"]) + "\n")
    one = TableRetrieval(*(tmp_path / name for name in ("q.csv", "features.h5", "sentences.h5")), name="mine")
    of_clip = {name: rows[i : i + 1] for i, name in enumerate(names[:4])}
    del texts["gone"]
    assert one.run(model) == expected(model, of_clip, texts, np.eye(4, dtype=bool))
    assert (one.coverage["sentences"], one.coverage["sentences with a clip"]) == (5, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,clip\nx,a\n", r"lacks the column 'query'.*evaluator\.table_retrieval\.columns\.query=NAME"),
        ("query,file\nx,a\n", r"lacks the column 'clip'"),
        ("query,clip\nx,a\n,b\n", r"line 3: query is empty"),
        ("query,clip\nx,a\ny,\n", r"line 3: clip is empty"),
        ("query,clip\n3,a\n4,b\n", r"'query' should hold sentences, but all of its cells are numbers"),
        ("query,clip\nx,a\n", r"has none of the 1 clips of .*q\.csv.*\('a', …\)"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "q.csv").write_text(text)
    write_rows(tmp_path / "features.h5", ["z"], np.random.default_rng(0))
    with pytest.raises(InputError, match=message):
        TableRetrieval(tmp_path / "q.csv", tmp_path / "features.h5").run(model_for())


def test_pairs_in_chunks_equal_the_whole_matrix() -> None:
    query, gallery = torch.randn(23, 4), torch.randn(17, 4)
    mask = torch.rand(23, 17) < 0.2
    mask[:, 3] = True
    pairs = mask.nonzero()[torch.randperm(int(mask.sum()))]
    whole = retrieval_from_pairs(query, gallery, pairs)
    assert retrieval_from_pairs(query, gallery, pairs, chunk=7) == whole
    found = retrieval_metrics(query @ gallery.T, mask)
    assert {name: whole[name] for name in found} == found
    constant = retrieval_from_pairs(torch.zeros(2, 4), gallery, torch.tensor([[0, 1], [1, 2]]))
    assert (constant["median_rank"], constant["mAP"]) == (17, pytest.approx(100 / 17))  # ties count against the model
    with pytest.raises(ValueError, match="1 of 23 queries have no correct answer"):
        retrieval_from_pairs(query, gallery, pairs[pairs[:, 0] != 4])
