from pathlib import Path

import numpy as np
import pytest

from clep.errors import InputError
from clep.view.search import SearchEngine, VideoFiles
from tests.view.search.small_world import LENGTH_S, ODD, PLANTED, engine_of


def keys(found: dict[str, list]) -> list[tuple[str, float]]:
    return [(hit["video"], hit["start_s"]) for hit in found["hits"]]


@pytest.mark.parametrize(("where", "text"), PLANTED.items())
def test_the_planted_moment_is_first_with_its_narration(engine: SearchEngine, where: tuple, text: str) -> None:
    hit, *rest = engine.search([text])["hits"]
    assert (hit["video"], hit["start_s"]) == where
    assert hit["narration"] == text
    assert hit["score"] > 0.9 > max(one["score"] for one in rest)
    assert bool(hit["missing"]) == (hit["video"] == "gone")


def test_hits_are_those_of_the_model(engine: SearchEngine) -> None:
    hits = engine.model.search(engine.bank, "opens the fridge", 10, 2.0, 1.0)
    found = engine.search(["opens the fridge"], top=10)["hits"]
    assert [(hit["video"], hit["start_s"], hit["end_s"]) for hit in found] == [hit[:3] for hit in hits]
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in hits])


def test_several_sentences_rank_by_the_mean_and_show_each(engine: SearchEngine) -> None:
    texts = ["opens the fridge", "closes the fridge"]
    found = engine.search(texts, top=30)["hits"]
    for hit in found:
        assert hit["score"] == pytest.approx(np.mean(hit["scores"]), abs=1e-5)
        alone = engine.scores(texts, hit["video"], hit["start_s"], hit["end_s"])
        assert hit["scores"] == pytest.approx(alone, abs=1e-5)
    assert {key for key in keys({"hits": found[:2]})} == {("kitchen", 6.0), (ODD, 4.0)}


def test_more_like_a_moment_finds_others_and_not_itself(engine: SearchEngine) -> None:
    found = engine.search([], [("kitchen", 6.0, 8.0)])["hits"]
    assert (found[0]["video"], found[0]["start_s"]) == (ODD, 4.0)  # the other one with a fridge
    assert not [hit for hit in found if hit["video"] == "kitchen" and 4.0 < hit["start_s"] < 8.0]


def test_filters_by_video_and_split(engine: SearchEngine) -> None:
    assert {video for video, _ in keys(engine.search(["a cup"], videos=["old", "gone"], top=100))} == {"old", "gone"}
    assert {video for video, _ in keys(engine.search(["a cup"], split="val", top=100))} == {"old"}
    assert engine.search(["a cup"], videos=["gone"], split="val")["hits"] == []
    with pytest.raises(InputError, match="no video 'nowhere'"):
        engine.search(["a cup"], videos=["nowhere"])
    with pytest.raises(InputError, match="split 'test'"):
        engine.search(["a cup"], split="test")


def test_similarity_over_time_has_its_peak_at_the_moment(engine: SearchEngine) -> None:
    curve = engine.curve(["opens the fridge", "washes a cup"], [], "kitchen")
    assert curve["end_s"] == LENGTH_S
    assert [curve["seconds"][int(np.argmax(scores))] for scores in curve["scores"]] == [7.0, 3.0]
    for second, scores in zip(curve["seconds"], zip(*curve["scores"], strict=True), strict=True):
        one = engine.scores(["opens the fridge", "washes a cup"], "kitchen", second - 1, second + 1)
        assert scores == pytest.approx(one, abs=1e-6)


def test_a_long_video_keeps_the_peaks_of_its_curve(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engine.curve(["opens the fridge"], [], "kitchen")
    monkeypatch.setattr("clep.view.search.engine._CURVE_POINTS", 4)
    short = engine.curve(["opens the fridge"], [], "kitchen")
    assert len(short["seconds"]) <= 4
    assert max(short["scores"][0]) == max(whole["scores"][0])


def test_swapped_words_move_the_score(engine: SearchEngine) -> None:
    same, other, nothing = engine.scores(["opens the fridge", "closes the fridge", "sings"], "kitchen", 6.0, 8.0)
    assert same > other > nothing


@pytest.mark.parametrize(
    ("texts", "message"),
    [([], "1 to 12 sentences"), (["  "], "is empty"), (["x" * 2001], "2001 characters"), (["a"] * 13, "not 13")],
)
def test_queries_that_are_none(engine: SearchEngine, texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.search(texts)


@pytest.mark.parametrize(
    "text", ["x" * 2000, "打开冰箱", "يفتح الثلاجة", "🧊 \u202e fridge", "a\u0300" * 50, "\x00 \t opens"]
)
def test_odd_scripts_are_sentences(engine: SearchEngine, text: str) -> None:
    found = engine.search([text])
    assert found["hits"]
    assert all(np.isfinite(hit["score"]) for hit in found["hits"])


def test_a_template_surrounds_the_sentence(world: Path) -> None:
    plain, framed = engine_of(world), engine_of(world, template="opens {}")
    one = framed.scores(["the fridge"], "kitchen", 6.0, 8.0)
    assert one == pytest.approx(plain.scores(["opens the fridge"], "kitchen", 6.0, 8.0))
    with pytest.raises(InputError, match=r"template='x' lacks \{\}"):
        engine_of(world, template="x")


def test_without_videos_and_narrations_a_bank_is_searched_alone(engine: SearchEngine) -> None:
    alone = SearchEngine(engine.model, engine.bank, engine.index, VideoFiles([]))
    hit = alone.search(["opens the fridge"])["hits"][0]
    assert (hit["video"], hit["narration"]) == ("kitchen", "")
    assert "videos=DIR" in hit["missing"]
    assert alone.moment("kitchen", 6.0, 8.0)["narrations"] == []
    assert alone.about()["files"] == 0


def test_about_counts(engine: SearchEngine) -> None:
    about = engine.about()
    assert about["files"] == 3
    assert about["moments"] == len(engine.index)
    assert about["hours"] == pytest.approx(4 * LENGTH_S / 3600)
    assert {one["id"]: one["split"] for one in about["videos"]}["old"] == "val"
