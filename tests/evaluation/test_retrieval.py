import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from clep.bank import FeatureBank
from clep.data import MomentDataset, Window
from clep.errors import InputError
from clep.evaluation import NarrationRetrieval
from clep.metrics import retrieval_metrics
from clep.models import DualEncoder
from tests.evaluation.tiny_clips import by_hand, model_for, unit
from tests.tiny_source import tiny_source


def retrieval(folder: Path, size: int = 2000, seed: int = 0, **options: Any) -> NarrationRetrieval:
    return NarrationRetrieval(tiny_source(folder, **{"val_fraction": 0.3, **options}), size=size, seed=seed)


def held_out(folder: Path, **options: Any) -> MomentDataset:
    found = tiny_source(folder, **{"val_fraction": 0.3, **options}).open(Window())[1]
    assert found is not None
    return found


def test_embeddings_that_are_nan_are_counted_with_a_reason(tmp_path: Path) -> None:
    model = model_for(metadata={})
    next(model.video.parameters()).data.fill_(float("nan"))
    evaluator = retrieval(tmp_path)
    with pytest.raises(InputError, match=r"NarrationRetrieval: (\d+) of \1 items .* NaN.*optim\.optimizer\.lr"):
        evaluator.run(model)


def metrics_by_hand(model: DualEncoder, moments: MomentDataset) -> dict[str, float]:
    """Embed each held-out moment on its own and let every query walk down its sorted list."""
    clock = moments.bank.clock
    videos, texts, sentences = [], [], []
    vectors = FeatureBank.open(moments.texts.path).video_rows("texts").numpy()
    for video, start_s, end_s, text in zip(
        *(getattr(moments.moments, name) for name in ("video", "start_s", "end_s", "text_id")), strict=True
    ):
        rows = moments.bank.video_rows(moments.bank.videos[video]).numpy().astype(np.float64)
        first, last = clock.window(float(start_s), float(end_s), len(rows), 60.0)
        pair = by_hand(model.video, rows[first:last].mean(0)), by_hand(model.text, vectors[text])
        videos.append(unit(pair[0]) if model.normalize else pair[0])
        texts.append(unit(pair[1]) if model.normalize else pair[1])
        sentences.append(int(text))
    found = {}
    for name, queries, answers in (("v2t", videos, texts), ("t2v", texts, videos)):
        ranks = []
        for number, query in enumerate(queries):
            order = sorted(range(len(answers)), key=lambda i, query=query: -float(query @ answers[i]))
            right = [position for position, i in enumerate(order) if sentences[i] == sentences[number]]
            # Copies of the sentence are equally right and, as answers, equally similar: the best place counts.
            ranks.append(1 + min(right))
        for k in (1, 5, 10):
            found[f"val/retrieval/{name}/r{k}"] = 100 * sum(rank <= k for rank in ranks) / len(ranks)
        found[f"val/retrieval/{name}/median_rank"] = float(np.median(ranks))
        found[f"val/retrieval/{name}/mean_rank"] = sum(ranks) / len(ranks)
    return found


@pytest.mark.parametrize("normalize", [True, False])
def test_equals_a_loop_over_queries(tmp_path: Path, normalize: bool) -> None:
    model, evaluator = model_for(metadata={}, normalize=normalize), retrieval(tmp_path)
    metrics = evaluator.run(model)
    assert metrics == pytest.approx(metrics_by_hand(model, held_out(tmp_path)))
    moments = held_out(tmp_path)
    assert evaluator.coverage == {
        "gallery": len(moments),
        "held-out moments": len(moments),
        "distinct texts": len(set(moments.moments.text_id.tolist())),
    }
    assert evaluator.coverage["distinct texts"] < len(moments)


def test_the_gallery_is_fixed_and_its_size_stated(tmp_path: Path) -> None:
    evaluator, model = retrieval(tmp_path, size=25), model_for(metadata={})
    first = evaluator.run(model)
    assert evaluator.coverage["gallery"] == 25
    assert evaluator.coverage["held-out moments"] == len(held_out(tmp_path)) > 25
    assert evaluator.run(model) == first
    assert retrieval(tmp_path, size=25).run(model) == first
    others = [retrieval(tmp_path, size=25, seed=seed).run(model) for seed in (1, 2, 3)]
    assert any(other != first for other in others)


def test_equal_sentences_are_all_right_answers(tmp_path: Path) -> None:
    """A model that pairs every video with its very sentence reaches 100%; by the diagonal, copies would cap it."""
    evaluator, model = retrieval(tmp_path), model_for(metadata={})
    text_id = torch.from_numpy(held_out(tmp_path).moments.text_id)
    vectors = normalize(FeatureBank.open(tmp_path / "texts.h5").video_rows("texts"), dim=-1)
    model.encode_video = lambda batch: vectors[batch["text_id"]]
    model.encode_text = lambda batch: normalize(batch["text"], dim=-1)
    metrics = evaluator.run(model)
    assert metrics["val/retrieval/v2t/r1"] == metrics["val/retrieval/t2v/r1"] == 100
    assert metrics["val/retrieval/v2t/mean_rank"] == 1
    by_diagonal = retrieval_metrics(vectors[text_id] @ vectors[text_id].T)
    assert by_diagonal["r1"] < 60


def test_a_bank_of_another_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'omnivore'.*'tiny'"):
        retrieval(tmp_path).run(model_for(metadata={"bank_encoder": "omnivore"}))


def test_something_must_be_held_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"narrations\.arrow holds out no videos.*raise its val_fraction"):
        retrieval(tmp_path, val_fraction=0.0).run(model_for(metadata={}))
    with pytest.raises(InputError, match="size=1"):
        retrieval(tmp_path, size=1)


def test_the_windows_of_the_model_are_used(tmp_path: Path) -> None:
    evaluator, model = retrieval(tmp_path), model_for(metadata={})
    centre = evaluator.run(model)
    model.metadata = {"window": {"align": "start", "pool": "mean", "max_rows": 16, "sample": "uniform"}}
    start = evaluator.run(model)
    assert start != centre
    assert start == retrieval(tmp_path).run(model)
    model.metadata = {}
    assert evaluator.run(model) == centre


def test_open_files_do_not_travel(tmp_path: Path) -> None:
    evaluator, model = retrieval(tmp_path), model_for(metadata={})
    metrics = evaluator.run(model)
    copy = pickle.loads(pickle.dumps(evaluator))
    assert copy._opened is None
    assert copy.run(model) == metrics
