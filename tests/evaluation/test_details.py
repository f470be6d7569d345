"""Details of evaluations: what is kept, against slow versions; and the file that holds them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from clep.errors import InputError
from clep.evaluation import details as details_module
from clep.evaluation.details import (
    Classes,
    Hits,
    Pairs,
    Ranks,
    classification_details,
    precision_details,
    rank_details,
    read_details,
    reliability,
    retrieval_details,
    value_details,
    write_details,
)
from clep.metrics.retrieval import retrieval_ranks


def a_retrieval(
    count: int = 40, texts: int = 30
) -> tuple[list[Ranks | Classes | Hits | Pairs], torch.Tensor, torch.Tensor]:
    video, embedded = (torch.nn.functional.normalize(torch.randn(n, 8), dim=1) for n in (count, texts))
    text_id = torch.arange(count) % texts
    text = embedded[text_id]
    ranks = {
        "t2v": retrieval_ranks(text, video, text_id, text_id),
        "v2t": retrieval_ranks(video, text, text_id, text_id),
    }
    seconds = np.arange(count, dtype=np.float64)
    moments = [f"v{index}" for index in range(count)], seconds, seconds + 1
    sentences = [f"text {index}" for index in range(texts)]
    return retrieval_details("val/retrieval", video, text, text_id, ranks, moments, sentences, 10.0), video, text


def of_kind(found: list, kind: type) -> list:
    return [one for one in found if isinstance(one, kind)]


def test_shown_answers_are_the_most_similar_ones() -> None:
    found, video, text = a_retrieval()
    (pairs,) = of_kind(found, Pairs)
    for hits, query, gallery in zip(of_kind(found, Hits), (text, video), (video, text), strict=True):
        similarity = query @ gallery.T
        for row, index in enumerate(hits.query.tolist()):
            answers = hits.answer[row].tolist()
            expected = torch.argsort(similarity[index], descending=True).tolist()
            if hits.name.endswith("v2t"):  # one moment of each text
                seen: set[str] = set()
                expected = [one for one in expected if not (pairs.text[one] in seen or seen.add(pairs.text[one]))]
                assert [pairs.text[one] for one in answers] == [pairs.text[one] for one in expected[:5]]
            else:
                assert answers == expected[:5]
            assert hits.right[row].tolist() == [pairs.text[one] == pairs.text[index] for one in answers]
            assert hits.own[row] == pytest.approx(
                max(float(similarity[index, one]) for one in range(40) if pairs.text[one] == pairs.text[index]),
                abs=1e-6,
            )


def test_groups_are_the_best_the_middle_and_the_worst_ranks() -> None:
    found, *_ = a_retrieval()
    for hits, ranks in zip(of_kind(found, Hits), of_kind(found, Ranks), strict=True):
        by_group = [hits.rank[hits.group == group] for group in range(3)]
        assert by_group[0].min() == ranks.rank.min()
        assert by_group[2].max() == ranks.rank.max()
        assert by_group[0].max() <= np.median(ranks.rank) <= by_group[2].min()
        assert len({int(index) for index in hits.query}) == len(hits.query)


def test_a_large_gallery_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(details_module, "MAX_PAIRS", 10)
    monkeypatch.setattr(details_module, "MAX_QUERIES", 25)
    found, video, _ = a_retrieval()
    (pairs,) = of_kind(found, Pairs)
    assert (pairs.gallery, len(pairs.video_rows)) == (40, 10)
    for index, row in enumerate(pairs.video_rows):  # listed first, with their own text and video
        own = int(pairs.video[index][1:])
        np.testing.assert_allclose(row, video[own].numpy(), atol=1e-3)
        assert pairs.text[index] == f"text {own % 30}"
    assert all(int(hits.answer.max()) < len(pairs.video) for hits in of_kind(found, Hits))
    ranks = of_kind(found, Ranks)[0]
    assert (ranks.queries, len(ranks.rank), len(set(ranks.key.tolist()))) == (40, 25, 25)


def test_classes_and_confusions_by_hand() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 4.0], [0.0, 9.0, 4.0]])
    label = torch.tensor([0, 0, 1, 1, 1])  # right, a tie (wrong), taken for 0, taken for 2, right
    ranks, classes = classification_details("x", scores, label, list("abcde"), ["A", "B", "C"], scale=1.0)
    assert ranks.rank.tolist() == [1, 2, 3, 3, 1]
    assert classes.count.tolist() == [2, 3, 0]
    np.testing.assert_allclose(classes.value, [50.0, 100 / 3, np.nan])
    assert sorted(map(tuple, classes.confused.tolist())) == [(0, 1, 1), (1, 0, 1), (1, 2, 1)]
    assert classes.calibration[:, 0].sum() == 5


def test_reliability_against_a_loop() -> None:
    generator = np.random.default_rng(0)
    confidence, correct = generator.random(200), generator.random(200) < 0.5
    found = reliability(confidence, correct)
    expected = []
    for low in np.arange(10) / 10:
        own = [index for index in range(200) if low <= confidence[index] < low + 0.1]
        if own:
            expected.append((len(own), confidence[own].mean(), correct[own].mean()))
    np.testing.assert_allclose(found, expected)
    assert reliability(np.array([1.0]), np.array([True])).tolist() == [[1.0, 1.0, 1.0]]


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    found, *_ = a_retrieval()
    found.append(value_details("mir/t2v", ("mAP", "nDCG"), np.array([[5.0, 7.5], [0.0, 100.0]]), ["ü", "b"]))
    found = [*found, precision_details("ava", 9, ["a", "ü"], np.array([1, 0]), np.array([5.0, np.nan]))]
    write_details(tmp_path / "d", found, {"machine": {"cores": 2}})
    read, facts = read_details(tmp_path / "d")
    assert facts == {"machine": {"cores": 2}}
    assert [type(one) for one in read] == [type(one) for one in found]
    for one, other in zip(read, found, strict=True):
        for name, value in vars(other).items():
            np.testing.assert_array_equal(getattr(one, name), value)
    write_details(tmp_path / "nothing", [], {})
    assert read_details(tmp_path / "nothing") == ([], {})


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d"
    write_details(path, [rank_details("x", torch.tensor([1, 2]), ["a", "b"], 3)], {})
    whole = path.read_bytes()
    for position in range(8, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(InputError, match="d "):
            read_details(path)
    path.write_bytes(whole[:-3])
    with pytest.raises(InputError, match="cannot be read"):
        read_details(path)
    save_file({"x": np.zeros(1)}, path)
    with pytest.raises(InputError, match="not a file of details"):
        read_details(path)
    with pytest.raises(InputError, match="missing"):
        read_details(tmp_path / "missing")
