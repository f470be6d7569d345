from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock
from clep.data import LabelledClips
from clep.errors import InputError
from clep.evaluation import KineticsZeroShot
from clep.models import DualEncoder
from tests.evaluation.tiny_clips import WORDS, TinySet, model_for, score_by_hand, write_kinetics, write_prompts


def accuracy_by_hand(model: DualEncoder, tiny: TinySet, k: int) -> float:
    """Take one clip after the other, sort its classes by score, and look for the right one."""
    right = []
    for name, label in zip(tiny.clips.ids, tiny.clips.label, strict=True):
        if name not in tiny.rows:
            continue
        scores = [score_by_hand(model, tiny.rows[name], templates) for templates in tiny.prompts["prompt"]]
        right.append(int(label) in sorted(range(len(scores)), key=lambda c: -scores[c])[:k])
    return 100 * sum(right) / len(right)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop_over_clips(tmp_path: Path, seed: int) -> None:
    tiny, model = write_kinetics(tmp_path, seed=seed), model_for()
    metrics = KineticsZeroShot(str(tmp_path), WORDS, batch_size=11).run(model)
    assert metrics == {
        "zeroshot/kinetics/top1": pytest.approx(accuracy_by_hand(model, tiny, 1)),
        "zeroshot/kinetics/top5": pytest.approx(accuracy_by_hand(model, tiny, 5)),
    }
    assert 0 < metrics["zeroshot/kinetics/top1"] < metrics["zeroshot/kinetics/top5"] < 100


def test_a_model_that_does_not_normalise_is_scored_by_its_own_dot_product(tmp_path: Path) -> None:
    tiny = write_kinetics(tmp_path, clips=200, classes=9)
    raw, normalising = model_for(normalize=False, scale_form="raw"), model_for()
    metrics = KineticsZeroShot(str(tmp_path), WORDS).run(raw)
    assert metrics["zeroshot/kinetics/top1"] == pytest.approx(accuracy_by_hand(raw, tiny, 1))
    assert metrics["zeroshot/kinetics/top5"] == pytest.approx(accuracy_by_hand(raw, tiny, 5))
    assert metrics != KineticsZeroShot(str(tmp_path), WORDS).run(normalising)


def test_missing_clips_are_counted_and_not_scored(tmp_path: Path) -> None:
    tiny = write_kinetics(tmp_path)
    evaluator = KineticsZeroShot(str(tmp_path), WORDS)
    evaluator.run(model_for())
    assert evaluator.coverage == {"clips": 40, "clips with features": 34, "classes": 7, "prompt sets": 1}
    assert len(tiny.rows) == 34


def test_the_batch_size_changes_nothing(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    model = model_for()
    found = [KineticsZeroShot(str(tmp_path), WORDS, batch_size=size).run(model) for size in (1, 3, 34, 4096)]
    assert all(metrics == found[0] for metrics in found)


def test_features_in_another_folder_can_be_given(tmp_path: Path) -> None:
    write_kinetics(tmp_path / "a")
    there = KineticsZeroShot(str(tmp_path / "a"), WORDS).run(model_for())
    (tmp_path / "a" / "features.h5").rename(tmp_path / "elsewhere.h5")
    moved = KineticsZeroShot(str(tmp_path / "a"), WORDS, features=str(tmp_path / "elsewhere.h5"))
    assert moved.run(model_for()) == there


def test_a_model_that_knows_the_answers_reaches_everything(tmp_path: Path) -> None:
    """Features that are their class's own prompt, under two equal towers, must be found."""
    tiny = write_kinetics(tmp_path, templates=1)
    model = DualEncoder(torch.nn.Identity(), torch.nn.Identity())
    with BankWriter(tmp_path / "features.h5", 8, Clock(), "float32") as writer:
        for name, label in zip(tiny.clips.ids, tiny.clips.label, strict=True):
            writer.add(name, np.repeat(3 * tiny.prompts["prompt"][label], 4, axis=0))
    with torch.no_grad():
        model.log_scale.fill_(1.0)
    assert set(KineticsZeroShot(str(tmp_path), WORDS).run(model).values()) == {100.0}


def test_multi_label_clips_are_refused(tmp_path: Path) -> None:
    write_kinetics(tmp_path)
    labels = np.ones((40, 7), np.uint8)
    ids, classes = [f"clip{i:02d}" for i in range(40)], [f"class {i}" for i in range(7)]
    LabelledClips("ego_charades", ids, classes, labels=labels).write(tmp_path / "clips.h5")
    with pytest.raises(InputError, match=r"clips\.h5 has several labels per clip; use EgoCharadesZeroShot"):
        KineticsZeroShot(str(tmp_path), WORDS).run(model_for())


def test_prompts_without_the_set_of_kinetics_are_refused(tmp_path: Path) -> None:
    tiny = write_kinetics(tmp_path)
    write_prompts(tmp_path, {"label": tiny.prompts["prompt"]})
    with pytest.raises(InputError, match=r"prompts\.all-tiny-v1\.h5.*'prompt'.*label"):
        KineticsZeroShot(str(tmp_path), WORDS).run(model_for())
