"""Zero-shot classification of a table, of EPIC-KITCHENS-100 and of EGTEA Gaze+, against loops over clips."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from clep.errors import InputError
from clep.evaluation import EGTEAZeroShot, EpicZeroShot, NearestNeighbours, ZeroShotClassification
from clep.models import DualEncoder
from tests.evaluation.test_epic_mir import write_epic
from tests.evaluation.tiny_benchmarks import write_rows, write_sentences
from tests.evaluation.tiny_clips import by_hand, model_for, unit


def class_vector(model: DualEncoder, texts: list[np.ndarray]) -> np.ndarray:
    return unit(np.mean([unit(by_hand(model.text, text)) for text in texts], axis=0))


def video(model: DualEncoder, rows: np.ndarray) -> np.ndarray:
    return unit(by_hand(model.video, rows.astype(np.float64).mean(0)))


def top(scores: np.ndarray, label: int, k: int) -> bool:
    return label in np.argsort(-scores)[:k].tolist()


def write_egtea(folder: Path, clips: int = 40, classes: int = 6) -> list[tuple[str, int]]:
    random = np.random.default_rng(4)
    names = [f"OP0{i % 3}-R01-Salad-{1000 * i}-{1000 * i + 900}-F0-F9" for i in range(clips)]
    labels = random.integers(classes - 1, size=clips).tolist()  # the last class has no clip
    lines = [f"{name} {label + 1} 1 2" for name, label in zip(names, labels, strict=True)]
    (folder / "split.txt").write_text("\n".join(lines) + "\n")
    (folder / "actions.txt").write_text("".join(f"Do_thing {i} {i + 1}\n" for i in range(classes)))
    return list(zip(names, labels, strict=True))


@pytest.mark.parametrize("views", ["max", "mean"])
def test_egtea_takes_the_best_view_of_each_class(tmp_path: Path, views: str) -> None:
    clips = write_egtea(tmp_path)
    random, model = np.random.default_rng(0), model_for()
    rows = write_rows(tmp_path / "features.h5", [name for name, _ in clips][::-1], random)
    templates = ["#C C {}", "a video of {}"]
    prompts = [one.replace("{}", f"do thing {i}") for i in range(6) for one in ("Camera wearer {}", "a video of {}")]
    texts = write_sentences(tmp_path / "sentences.h5", prompts, random)
    vectors = [class_vector(model, [texts[one] for one in prompts[2 * i : 2 * i + 2]]) for i in range(6)]
    right, of_class = [], {}
    for name, label in clips:
        parts = rows[name][:, None] if views == "max" else rows[name][None]
        scores = np.max([[video(model, part) @ vector for vector in vectors] for part in parts], axis=0)
        right.append(top(scores, label, 1))
        of_class.setdefault(label, []).append(right[-1])
    one = EGTEAZeroShot(
        *(tmp_path / name for name in ("split.txt", "actions.txt", "features.h5", "sentences.h5")),
        templates=templates,
        views=views,
    )
    assert one.run(model) == {
        "egtea/top1": pytest.approx(100 * np.mean(right)),
        "egtea/mean_class_accuracy": pytest.approx(100 * np.mean([np.mean(found) for found in of_class.values()])),
    }
    assert 0 < np.mean(right) < 1
    assert one.coverage["views"] == (sum(map(len, rows.values())) if views == "max" else 40)


def test_epic_sums_the_probabilities_of_a_verbs_actions(tmp_path: Path) -> None:
    clips, _ = write_epic(tmp_path)
    random, model = np.random.default_rng(0), model_for()
    rows = write_rows(tmp_path / "features.h5", [clip[0] for clip in clips][2:], random)
    classes: dict[str, dict[str, None]] = {}
    for _, text, verb, nouns in clips:
        classes.setdefault(f"{verb}:{nouns[0]}", {})[text] = None
    names = sorted(classes)
    sentences = list(dict.fromkeys(text for name in names for text in classes[name]))
    texts = write_sentences(tmp_path / "sentences.h5", sentences, random)
    vectors = np.stack([class_vector(model, [texts[text] for text in classes[name]]) for name in names])
    scale = float(model.logit_scale.detach())
    hits: dict[str, list[bool]] = {}
    for name, _, verb, nouns in clips[2:]:
        scores = vectors @ video(model, rows[name])
        probability = np.exp(scale * scores) / np.exp(scale * scores).sum()
        for k in (1, 5):
            hits.setdefault(f"action/top{k}", []).append(top(scores, names.index(f"{verb}:{nouns[0]}"), k))
            for side, kind, label in ((0, "verb", verb), (1, "noun", nouns[0])):
                summed = np.zeros(5)
                np.add.at(summed, [int(one.split(":")[side]) for one in names], probability)
                hits.setdefault(f"{kind}/top{k}", []).append(top(summed, label, k))
    one = EpicZeroShot(*(tmp_path / name for name in ("clips.csv", "features.h5", "sentences.h5")))
    expected = {f"ek100_cls/{name}": pytest.approx(100 * np.mean(found)) for name, found in hits.items()}
    assert one.run(model) == expected
    assert one.coverage["clips"] == 30
    assert one.coverage["clips with features"] == 28
    assert one.coverage["classes"] == len(names)


def test_classes_of_train_count_too(tmp_path: Path) -> None:
    clips, _ = write_epic(tmp_path)
    (tmp_path / "train").mkdir()
    more, _ = write_epic(tmp_path / "train", clips=60, seed=9)
    both = {(verb, nouns[0]) for _, _, verb, nouns in (*clips, *more)}
    paths = (tmp_path / "clips.csv", "features.h5", "sentences.h5")
    assert len(EpicZeroShot(*paths, train=tmp_path / "train/clips.csv").clips.texts) == len(both)
    assert len(EpicZeroShot(*paths).clips.texts) < len(both)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    lines = [f"c{i},{'red' if i % 3 else 'blue'},film,{i},{i + 1}" for i in range(12)]
    (tmp_path / "clips.csv").write_text("\n".join(["clip,label,video,start,end", *lines]) + "\n")
    random, model = np.random.default_rng(0), model_for()
    rows = write_rows(tmp_path / "features.h5", ["film"], random, rows=12)["film"]
    texts = write_sentences(tmp_path / "sentences.h5", ["blue", "red"], random)
    vectors = np.stack([class_vector(model, [texts[name]]) for name in ("blue", "red")])
    hits = [bool(np.argmax(vectors @ video(model, rows[i : i + 1])) == int(i % 3 > 0)) for i in range(12)]
    paths = [tmp_path / name for name in ("clips.csv", "features.h5", "sentences.h5")]
    found = ZeroShotClassification(*paths, name="colours").run(model)
    assert found == {
        "zeroshot/colours/top1": pytest.approx(100 * np.mean(hits)),
        "zeroshot/colours/top5": 100.0,
        "zeroshot/colours/mean_class_accuracy": pytest.approx(
            50 * (np.mean(hits[::3]) + np.mean([h for i, h in enumerate(hits) if i % 3]))
        ),
    }


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("clip,label\na,red\n", "blue\ngreen\n", "line 2: the label 'red' is not among the 2 classes"),
        ("clip,label\na,red\na,blue\n", None, r"line 3: the clip 'a' is labelled 'blue' here and 'red' before"),
        ("clip,label,start\na,red,3\n", None, "has the column 'start' but not 'video'"),
        ("clip,label,video,start,end\na,red,v,3,2\n", None, "line 2: the clip 'a' spans 3 to 2 s"),
        ("clip,label,video,start,end\na,x,v,1,2\na,x,v,1,3\n", None, "line 3: the clip 'a' has another span than in"),
        ("clip,label\na,\n", None, "line 2: label is empty"),
        ("clip,label\n,red\nb,red\n", None, "line 2: clip is empty"),
        ("clip,class\na,red\n", None, r"lacks the column 'label'.*evaluator\.table_classification\.columns\.label=N"),
        ("video,label\na,red\n", None, "has the column 'video' but not 'start'"),
        ("label\nred\n", None, "lacks the column 'clip'"),
        ("clip,label\na,1\nb,2\n", None, r"the labels are numbers \('1', …\), not names; .*classes=FILE"),
        ("clip,label\na,3\n", "blue\ngreen\n", "line 2: the label '3' is not among the 2 classes"),
        ("clip,label\na,blue|gren\n", "blue\ngreen\n", "line 2: the label 'gren' is not .* Did you mean 'green'"),
        ("clip,label\na,red\n", "red\nred\n", "should list each class name once, .*'red' is listed twice"),
        ("clip,label\na,red\n", "\n", "should list each class name once, .*it is empty"),
        ("video,start,end,label\nv,1,two,red\n", None, "line 2: end is 'two', not seconds"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, classes: str | None, message: str) -> None:
    (tmp_path / "clips.csv").write_text(text)
    if classes is not None:
        (tmp_path / "classes.txt").write_text(classes)
    one = ZeroShotClassification(
        tmp_path / "clips.csv", "bank.h5", "texts.h5", None if classes is None else tmp_path / "classes.txt"
    )
    with pytest.raises(InputError, match=message):
        one.run(model_for())


def table_files(folder: Path, rows: list[dict[str, object]]) -> list[Path]:
    """Write one table in every format."""
    frame = pd.DataFrame(rows)
    paths = [folder / f"clips{suffix}" for suffix in (".csv", ".tsv", ".parquet", ".jsonl")]
    frame.to_csv(paths[0], index=False)
    frame.to_csv(paths[1], index=False, sep="\t")
    frame.to_parquet(paths[2], index=False)
    frame.to_json(paths[3], orient="records", lines=True)
    return paths


def test_every_format_and_spans_without_ids(tmp_path: Path) -> None:
    rows = [{"film": "v.mp4", "start": i, "end": i + 1, "action": "red" if i % 2 else "blue"} for i in range(6)]
    random, model = np.random.default_rng(0), model_for()
    write_rows(tmp_path / "features.h5", ["v"], random, rows=6)
    write_sentences(tmp_path / "sentences.h5", ["blue", "red"], random)
    files = (tmp_path / "features.h5", tmp_path / "sentences.h5")
    columns = {"video": "film", "label": "action"}
    found = [ZeroShotClassification(path, *files, columns=columns).run(model) for path in table_files(tmp_path, rows)]
    assert found[0]["zeroshot/table/top5"] == 100
    assert found == [found[0]] * 4


def test_several_labels_give_the_mean_average_precision(tmp_path: Path) -> None:
    """Against scikit-learn; the class without clips has no part in the mean."""
    random, model = np.random.default_rng(0), model_for()
    names = ["cut", "dry", "pour", "wash"]
    labels = [[name for name in names[:3] if random.random() < 0.5] or ["cut"] for _ in range(20)]
    table = pd.DataFrame({"clip": [f"c{i}" for i in range(20)], "label": ["|".join(some) for some in labels]})
    table.to_csv(tmp_path / "clips.csv", index=False)
    (tmp_path / "classes.txt").write_text("\n".join(names))
    rows = write_rows(tmp_path / "features.h5", [f"c{i}" for i in range(20)], random)
    texts = write_sentences(tmp_path / "sentences.h5", names, random)
    vectors = [class_vector(model, [texts[name]]) for name in names]
    scores = np.array([[video(model, rows[f"c{i}"]) @ vector for vector in vectors] for i in range(20)])
    mask = np.array([[name in some for name in names] for some in labels])
    expected = np.mean([average_precision_score(mask[:, c], scores[:, c]) for c in range(3)])
    one = ZeroShotClassification(
        tmp_path / "clips.csv", tmp_path / "features.h5", tmp_path / "sentences.h5", tmp_path / "classes.txt", name="x"
    )
    assert one.run(model) == {"zeroshot/x/mAP": pytest.approx(100 * expected, abs=1e-6)}
    assert one.coverage["classes without clips"] == 1
    with pytest.raises(InputError, match=r"the clip 'c\d+' has the labels .*; only one is possible here"):
        NearestNeighbours(tmp_path / "clips.csv", tmp_path / "clips.csv", tmp_path / "features.h5").run(model)


def test_equal_rows_and_classes_without_clips_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "clips.csv").write_text("clip,label\na,red\nb,blue\na,red\n")
    random = np.random.default_rng(0)
    write_rows(tmp_path / "features.h5", ["a", "b"], random)
    write_sentences(tmp_path / "sentences.h5", ["blue", "red", "green"], random)
    paths = [tmp_path / name for name in ("clips.csv", "features.h5", "sentences.h5")]
    one = ZeroShotClassification(*paths, classes=["blue", "red", "green"])
    one.run(model_for())
    assert (one.coverage["clips"], one.coverage["repeated rows"], one.coverage["classes without clips"]) == (2, 1, 1)
    assert "1 rows equal an earlier one" in caplog.text
    assert "1 of 3 classes have no clip: 'green'" in caplog.text


@pytest.mark.parametrize(("factor", "guess"), [(30, "frames"), (1000, "milliseconds")])
def test_times_that_are_no_seconds_are_recognised(tmp_path: Path, factor: int, guess: str) -> None:
    lines = [f"film,{factor * i},{factor * (i + 1)},{'red' if i % 2 else 'blue'}" for i in range(12)]
    (tmp_path / "clips.csv").write_text("\n".join(["video,start,end,label", *lines]))
    random = np.random.default_rng(0)
    write_rows(tmp_path / "features.h5", ["film"], random, rows=12)
    write_sentences(tmp_path / "sentences.h5", ["blue", "red"], random)
    one = ZeroShotClassification(*(tmp_path / name for name in ("clips.csv", "features.h5", "sentences.h5")))
    with pytest.raises(InputError, match=rf"clips\.csv: .* in 'film' of 13 s; are these {guess}\?"):
        one.run(model_for())


def test_sentences_are_embedded_where_no_bank_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the bank of the job; templates come from a file; the sentences are embedded once."""
    (tmp_path / "clips.csv").write_text("clip,label\na,red\nb,blue\n")
    (tmp_path / "templates.txt").write_text("#C C {}\n\na {}\n")
    random, model = np.random.default_rng(0), model_for()
    write_rows(tmp_path / "features.h5", ["a", "b"], random)
    sentences = ["Camera wearer blue", "a blue", "Camera wearer red", "a red"]
    vectors = write_sentences(tmp_path / "sentences.h5", sentences, random)
    asked: list[list[str]] = []

    class Encoder:
        def __init__(self, name: str, device: str) -> None:
            assert (name, device) == ("all-tiny-v1", "cpu")

        def encode(self, texts: list[str]) -> np.ndarray:
            asked.append(texts)
            return np.stack([vectors[text] for text in texts])

    monkeypatch.setattr("clep.evaluation.clip_text.load_sentence_encoder", Encoder)
    paths = (tmp_path / "clips.csv", tmp_path / "features.h5")
    templates = str(tmp_path / "templates.txt")
    one = ZeroShotClassification(*paths, templates=templates)
    assert one.run(model) == ZeroShotClassification(*paths, tmp_path / "sentences.h5", templates=templates).run(model)
    one.run(model)
    assert asked == [sentences]
    assert one.prompts == {"table": [["#C C blue", "a blue"], ["#C C red", "a red"]]}
    (tmp_path / "templates.txt").write_text("a {}\na video\n")
    with pytest.raises(InputError, match=r"templates\.txt, line 2: the template 'a video' must have \{\} once"):
        one.run(model)


def test_features_of_another_dimension_or_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "clips.csv").write_text("clip,label\na,red\nb,blue\n")
    random, model = np.random.default_rng(0), model_for()
    write_rows(tmp_path / "features.h5", ["a", "b"], random)
    write_sentences(tmp_path / "sentences.h5", ["blue", "red"], random)
    one = ZeroShotClassification(*(tmp_path / name for name in ("clips.csv", "features.h5", "sentences.h5")))
    model.metadata |= {"bank_dim": 12, "bank_rows_per_second": 1.0}
    one.run(model)
    assert "rows per second" not in caplog.text
    model.metadata["bank_rows_per_second"] = 2.0
    one.run(model)
    assert "the model was trained on 2 rows per second, but this bank has 1" in caplog.text
    model.metadata["bank_dim"] = 768
    with pytest.raises(InputError, match="trained on features of dimension 768, but this bank has dimension 12"):
        one.run(model)


def test_labels_may_be_indices_of_the_list_of_classes(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("clip,label\na,1.0\nb,green\n")
    (tmp_path / "classes.txt").write_text("blue\ngreen\n")
    one = ZeroShotClassification(tmp_path / "clips.csv", "b.h5", "t.h5", tmp_path / "classes.txt")
    assert one.clips.label.tolist() == [1, 1]
