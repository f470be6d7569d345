"""Multi-instance retrieval on small banks, against the definition; 200 clips from csv files to figures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock
from clep.errors import InputError
from clep.evaluation import EpicMIR
from clep.evaluation.details import query_keys
from clep.evaluation.epic_mir import dual_softmax
from clep.models import DualEncoder
from clep.text import Texts
from tests.evaluation.tiny_benchmarks import similarity, write_rows, write_sentences
from tests.evaluation.tiny_clips import model_for
from tests.metrics.test_multi_instance import slow

VERBS, NOUNS = ("take", "put", "wash", "cut"), ("plate", "knife", "pan", "tap", "onion")
HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
Clip = tuple[str, str, int, list[int]]


def write_epic(folder: Path, clips: int = 30, seed: int = 0) -> tuple[list[Clip], list[int]]:
    """Write clips.csv and sentences.csv as EPIC-KITCHENS-100 has them; return clips and the clip of each sentence."""
    random = np.random.default_rng(seed)
    found: list[Clip] = []
    lines, first = [HEADER], {}
    for number in range(clips):
        verb, nouns = int(random.integers(4)), random.choice(5, random.integers(1, 3), replace=False).tolist()
        text = f"{VERBS[verb]} {' and '.join(NOUNS[noun] for noun in nouns)}"
        name, start = f"P01_{number % 3:02d}_{number}", number // 3
        first.setdefault(text, number)
        found.append((name, text, verb, nouns))
        names = str([NOUNS[noun] for noun in nouns])
        times = f"00:00:00.000,00:00:{start:02d}.00,00:00:{start + 1:02d}.00,1,60"
        cells = f'{text},{VERBS[verb]},{verb},{NOUNS[nouns[0]]},{nouns[0]},"{names}","{nouns}"'
        lines.append(f"{name},P01,P01_{number % 3:02d},{times},{cells}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    sentences = list(first.values())
    listed = [f"{found[i][0]},{found[i][1]}" for i in sentences]
    (folder / "sentences.csv").write_text("\n".join(["narration_id,narration", *listed]) + "\n")
    return found, sentences


def relevancy_by_hand(clips: list[Clip], sentences: list[int]) -> np.ndarray:
    def of(one: Clip, other: Clip) -> float:
        shared, union = set(one[3]) & set(other[3]), set(one[3]) | set(other[3])
        return (float(one[2] == other[2]) + len(shared) / len(union)) / 2

    return np.array([[of(clip, clips[i]) for i in sentences] for clip in clips])


def evaluator(folder: Path, **options: object) -> EpicMIR:
    paths = [folder / name for name in ("clips.csv", "sentences.csv", "features.h5", "sentences.h5")]
    return EpicMIR(*paths, **options)


def write_banks(folder: Path, clips: list[Clip], template: str = "{}", drop: int = 0):
    random = np.random.default_rng(3)
    rows = write_rows(folder / "features.h5", [clip[0] for clip in clips][drop:], random)
    narrations = list(dict.fromkeys(template.replace("{}", clip[1]) for clip in clips))
    return rows, write_sentences(folder / "sentences.h5", narrations, random)


@pytest.mark.parametrize("template", ["{}", "Camera wearer: {}"])
def test_equals_the_definition(tmp_path: Path, template: str) -> None:
    clips, sentences = write_epic(tmp_path)
    rows, texts = write_banks(tmp_path, clips, template)
    model = model_for()
    scores = [
        [similarity(model, rows[clip[0]], texts[template.replace("{}", clips[i][1])]) for i in sentences]
        for clip in clips
    ]
    expected = slow(np.array(scores), relevancy_by_hand(clips, sentences))
    one = evaluator(tmp_path, template=template)
    assert one.run(model) == {f"ek100_mir/{name}": pytest.approx(value) for name, value in expected.items()}
    assert one.coverage["clips"] == one.coverage["clips with features"] == 30
    assert one.coverage["sentences"] == one.coverage["sentences with a matching clip"] == len(sentences)
    assert one.coverage["sentences that are not their id's narration"] == 0


def test_the_values_of_queries_are_kept_for_comparisons(tmp_path: Path) -> None:
    """Their means are the metrics, also where clips have no features; the key of a query is the id of its clip."""
    clips, sentences = write_epic(tmp_path)
    write_banks(tmp_path, clips, drop=3)
    one = evaluator(tmp_path)
    metrics = one.run(model_for(), details=True)
    v2t, t2v = one.details
    assert (v2t.name, t2v.name) == ("ek100_mir/v2t", "ek100_mir/t2v")
    for found in one.details:
        for metric, value in zip(found.metrics, found.value.mean(0).tolist(), strict=True):
            assert metrics[f"{found.name}/{metric}"] == pytest.approx(value, rel=1e-5)
    kept = set(query_keys([clip[0] for clip in clips[3:]]).tolist())
    assert set(v2t.key.tolist()) <= kept
    assert set(t2v.key.tolist()) <= set(query_keys([clips[i][0] for i in sentences]).tolist())
    assert (v2t.queries, t2v.queries) == (len(v2t.key), len(t2v.key))
    assert t2v.queries == one.coverage["sentences with a matching clip"]


def test_another_text_beside_an_id_changes_nothing_but_the_count(tmp_path: Path) -> None:
    clips, _ = write_epic(tmp_path)
    write_banks(tmp_path, clips)
    before = evaluator(tmp_path).run(model_for())
    path = tmp_path / "sentences.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1] + " slowly"]) + "\n")
    one = evaluator(tmp_path)
    assert one.run(model_for()) == before
    assert one.coverage["sentences that are not their id's narration"] == 1


def test_missing_clips_are_counted_and_sentences_that_lose_their_clips_are_left_out(tmp_path: Path) -> None:
    clips, sentences = write_epic(tmp_path)
    rows, texts = write_banks(tmp_path, clips, drop=20)
    model, kept = model_for(), range(20, 30)
    relevancy = relevancy_by_hand(clips, sentences)[20:]
    right = (relevancy == 1).any(axis=0)
    scores = [[similarity(model, rows[clips[c][0]], texts[clips[i][1]]) for i in sentences] for c in kept]
    expected = slow(np.array(scores)[:, right], relevancy[:, right])
    one = evaluator(tmp_path)
    assert one.run(model) == {f"ek100_mir/{name}": pytest.approx(value) for name, value in expected.items()}
    assert (one.coverage["clips"], one.coverage["clips with features"]) == (30, 10)
    assert one.coverage["sentences with a matching clip"] == right.sum() < len(sentences)


def test_the_official_relevancy_is_read_from_its_pickle(tmp_path: Path) -> None:
    clips, sentences = write_epic(tmp_path)
    write_banks(tmp_path, clips)
    relevancy_by_hand(clips, sentences).dump(tmp_path / "relevancy.pkl")
    model = model_for()
    found = evaluator(tmp_path, relevancy=tmp_path / "relevancy.pkl").run(model)
    assert found == pytest.approx(evaluator(tmp_path).run(model))
    relevancy_by_hand(clips, sentences[1:]).dump(tmp_path / "relevancy.pkl")
    with pytest.raises(InputError, match=f"30 clips and {len(sentences)} sentences"):
        evaluator(tmp_path, relevancy=tmp_path / "relevancy.pkl").run(model)


def test_dual_softmax_is_the_published_formula_on_one_text_a_clip() -> None:
    random = np.random.default_rng(0)
    text = 30 * random.standard_normal((4, 6))
    of_clip = [0, 1, 1, 3, 0, 0, 1]
    video = 30 * random.standard_normal((7, 6))
    # As EgoVLP computes it: a matrix [texts, clips] with one text a clip.
    matrix = torch.from_numpy(text[of_clip] @ video.T)
    expected = (torch.softmax(matrix / 500, dim=1) * matrix).softmax(dim=0).T[:, [0, 1, 3]]
    count = torch.tensor([3, 3, 0, 1])
    found = dual_softmax(torch.from_numpy(video), torch.from_numpy(text), count)[:, [0, 1, 3]]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_dual_softmax_changes_the_figures(tmp_path: Path) -> None:
    clips, _ = write_epic(tmp_path)
    write_banks(tmp_path, clips)
    model = model_for()
    options = {"similarity": "dot"}
    plain, dual = (evaluator(tmp_path, **options, dual_softmax=on).run(model) for on in (False, True))
    assert plain.keys() == dual.keys()
    assert plain != dual


def test_a_perfect_model_reaches_100_on_200_clips(tmp_path: Path) -> None:
    """From csv files to figures: features that are their narration's own vector, under a model without towers."""
    clips, _ = write_epic(tmp_path, clips=180)
    vectors = np.zeros((len(clips), 4 + 5), np.float32)
    for row, (_, _, verb, nouns) in enumerate(clips):
        vectors[row, verb] = 1
        vectors[row, [4 + noun for noun in nouns]] = 1 / np.sqrt(len(nouns))
    texts = {clip[1]: vectors[row] for row, clip in enumerate(clips)}
    with BankWriter(tmp_path / "sentences.h5", 9, None, "float32", source=Texts.of(texts).digest()) as writer:
        writer.add("sentences", np.stack(list(texts.values())))
    with BankWriter(tmp_path / "features.h5", 9, Clock(1.0, 1.0), "float32") as writer:
        for clip, vector in zip(clips, vectors, strict=True):
            writer.add(clip[0], vector[None])
    joint = DualEncoder(torch.nn.Identity(), torch.nn.Identity())
    found = evaluator(tmp_path).run(joint)
    assert found["ek100_mir/mean/mAP"] == pytest.approx(100)
    assert found["ek100_mir/mean/mAP_binary"] == pytest.approx(100)
    random = DualEncoder(torch.nn.Linear(9, 4), torch.nn.Linear(9, 4))
    assert evaluator(tmp_path).run(random)["ek100_mir/mean/mAP"] < 90
