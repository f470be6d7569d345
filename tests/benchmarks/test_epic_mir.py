"""The retrieval trial on 200 synthetic clips: films, a tiny checkpoint, banks and figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import multi_instance
from benchmarks.epic_mir import rotated_metrics, trial, with_full_vocabulary
from clep.bank import FeatureBank
from tests.evaluation.test_epic_mir import write_epic
from tests.models.published.tiny_checkpoints import SIZES, lavila, save

pytest.importorskip("instant_clip_tokenizer", reason="CLIP's tokenizer is in the extra `published`")


def test_from_films_and_csv_files_to_figures(tmp_path: Path) -> None:
    data = tmp_path / "files"
    data.mkdir()
    clips, sentences = write_epic(data, clips=177)
    (data / "clips.csv").rename(data / "EPIC_100_validation.csv")
    (data / "sentences.csv").rename(data / "EPIC_100_retrieval_test_sentence.csv")
    (tmp_path / "sizes.json").write_text(json.dumps(SIZES))
    checkpoint = with_full_vocabulary(save(tmp_path / "lavila.pth", lavila()), tmp_path / "sizes.json", tmp_path)
    entry = trial(data, checkpoint, tmp_path)
    assert (entry.coverage["clips"], entry.coverage["clips with features"]) == (177, 177)
    assert entry.coverage["sentences"] == len(sentences)
    bank = FeatureBank.open(tmp_path / "data/clep/leaderboard/tiny/epic_mir/features.h5")
    assert set(bank.videos) == {clip[0] for clip in clips}
    assert np.isfinite(bank.take(np.arange(177)).numpy()).all()
    assert 0 < entry.metrics["ek100_mir/mean/mAP"] < 60
    assert 0 < entry.metrics["ek100_mir/mean/nDCG"] < 90
    rotated = rotated_metrics(tmp_path / "data", 3)
    assert len({one["mAP"] for one in rotated}) == 3
    for metric in ("mAP", "nDCG"):
        own = entry.metrics[f"ek100_mir/mean/{metric}"]
        assert min(one[metric] for one in rotated) - 20 < own < max(one[metric] for one in rotated) + 20


def test_the_official_loops_find_the_same_figures() -> None:
    settings = multi_instance.Settings(clips=60, sentences=40)
    clips, sentences = multi_instance.actions(settings)
    relevancy = multi_instance.mir_relevancy(clips, sentences)
    similarity = np.random.default_rng(1).standard_normal(relevancy.shape)
    found = multi_instance.mir_metrics(similarity, relevancy)
    for side, scores, relevant in (("v2t", similarity, relevancy), ("t2v", similarity.T, relevancy.T)):
        mean = 100 * np.mean(multi_instance.by_loops(scores, relevant), axis=0)
        assert found[f"{side}/mAP"] == pytest.approx(mean[0])
        assert found[f"{side}/nDCG"] == pytest.approx(mean[1])
