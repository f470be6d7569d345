import logging
from pathlib import Path

import numpy as np
import pytest

from clep.data import LabelledClips
from clep.errors import InputError
from clep.evaluation import EgoCharadesZeroShot
from clep.models import DualEncoder
from tests.evaluation.tiny_clips import WORDS, TinySet, model_for, score_by_hand, write_ego_charades

SETS = ("label", "ego_prompt", "exo_prompt")


def map_by_hand(model: DualEncoder, tiny: TinySet, subset: str, prompts: str) -> float:
    """Rank the videos of a subset class by class; those without any label come last."""
    wanted = {"ego": lambda first: first, "exo": lambda first: not first, "all": lambda first: True}[subset]
    videos = [
        (tiny.rows[name], labels)
        for name, labels, first in zip(tiny.clips.ids, tiny.clips.labels, tiny.clips.first_person, strict=True)
        if name in tiny.rows and wanted(bool(first))
    ]
    per_class = []
    for number, templates in enumerate(tiny.prompts[prompts]):
        ranked = sorted(videos, key=lambda video: (not video[1].any(), -score_by_hand(model, video[0], templates)))
        found, precisions = 0, []
        for rank, (_, labels) in enumerate(ranked, start=1):
            if labels[number]:
                found += 1
                precisions.append(found / rank)
        if precisions:
            per_class.append(sum(precisions) / len(precisions))
    return 100 * sum(per_class) / len(per_class)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_equals_a_loop_over_classes_and_videos(tmp_path: Path, seed: int, normalize: bool) -> None:
    tiny, model = write_ego_charades(tmp_path, seed=seed), model_for(normalize=normalize)
    metrics = EgoCharadesZeroShot(str(tmp_path), WORDS, batch_size=7).run(model)
    assert metrics == {
        f"zeroshot/ego_charades/{subset}/{prompts}/mAP": pytest.approx(map_by_hand(model, tiny, subset, prompts))
        for subset in ("ego", "exo", "all")
        for prompts in SETS
    }
    assert len({round(value, 6) for value in metrics.values()}) == 9


def test_coverage_counts_what_was_measured_and_what_was_left_out(tmp_path: Path) -> None:
    write_ego_charades(tmp_path)
    evaluator = EgoCharadesZeroShot(str(tmp_path), WORDS)
    evaluator.run(model_for())
    seen = evaluator.coverage
    assert (seen["clips"], seen["clips with features"], seen["classes"], seen["prompt sets"]) == (30, 28, 5, 3)
    assert (seen["ego videos"], seen["exo videos"], seen["all videos"]) == (14, 14, 28)
    assert seen["ego classes without positives"] == 1
    assert seen["exo classes without positives"] == 0


def test_a_subset_without_labelled_videos_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = write_ego_charades(tmp_path)
    everyone = np.zeros(len(tiny.clips.ids), dtype=bool)
    LabelledClips(
        "ego_charades", tiny.clips.ids, tiny.clips.classes, labels=tiny.clips.labels, first_person=everyone
    ).write(tmp_path / "clips.h5")
    with caplog.at_level(logging.WARNING):
        metrics = EgoCharadesZeroShot(str(tmp_path), WORDS).run(model_for())
    assert not any("/ego/" in name for name in metrics)
    assert len(metrics) == 6
    assert "no labelled ego videos" in caplog.text


@pytest.mark.parametrize("lacking", ["labels", "first_person"])
def test_files_without_labels_or_views_are_refused(tmp_path: Path, lacking: str) -> None:
    tiny = write_ego_charades(tmp_path)
    columns = {"labels": tiny.clips.labels, "first_person": tiny.clips.first_person}
    columns.pop(lacking)
    if lacking == "labels":
        columns["label"] = np.zeros(len(tiny.clips.ids), np.int64)
    LabelledClips("ego_charades", tiny.clips.ids, tiny.clips.classes, **columns).write(tmp_path / "clips.h5")
    with pytest.raises(InputError, match=r"clips\.h5 lacks .*clep\.preprocess ego_charades"):
        EgoCharadesZeroShot(str(tmp_path), WORDS).run(model_for())
