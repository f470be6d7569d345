import pytest
import torch

from clep.demo import EncoderSettings, SyntheticFeatures, supervised_probe
from clep.demo.probe import chance, probe_top1
from clep.errors import InputError


def _clips(spread, count, seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 4
    centre = torch.eye(4, 6)[label] * 3
    return centre + spread * torch.randn(count, 6, generator=generator), label


def test_separable_classes_are_learned():
    assert probe_top1(*_clips(0.1, 200, 0), *_clips(0.1, 80, 1)) == 100.0


def test_two_overlapping_classes_reach_the_best_possible():
    # Two unit normals at -1 and +1: the best rule is right with probability Phi(1) = 84.1%.
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(8000) % 2
    x = torch.randn(8000, 1, generator=generator) + (2.0 * label - 1.0)[:, None]
    found = probe_top1(x[:4000], label[:4000], x[4000:], label[4000:])
    assert found == pytest.approx(84.1, abs=1.5)


def test_random_labels_give_chance():
    train, label = _clips(0.1, 400, 0)
    shuffled = label[torch.randperm(400, generator=torch.Generator().manual_seed(2))]
    test, truth = torch.randn(2000, 6, generator=torch.Generator().manual_seed(3)), torch.arange(2000) % 4
    assert probe_top1(train, shuffled, test, truth) == pytest.approx(chance(4), abs=5)


def test_seeded():
    data = (*_clips(2.0, 200, 0), *_clips(2.0, 200, 1))
    assert probe_top1(*data, seed=3) == probe_top1(*data, seed=3)


def test_chance():
    assert chance(200) == 0.5


def test_the_probe_of_a_dataset(tmp_path):
    encoder = EncoderSettings(dim=32, hidden=16)
    tiny = {"training_videos": 1, "other_videos": 0, "shortest_s": 20.0, "longest_s": 30.0}
    sets = {"unseen_per_verb": 1, "kinetics_clips": 1, "charades_classes": 12, "charades_scripts": 3}
    SyntheticFeatures(**tiny, **sets, encoder=encoder).make(tmp_path / "data", seed=1, progress=False)
    found = supervised_probe(tmp_path / "data", clips_per_class=5)
    assert (found["classes"], found["train_clips"], found["test_clips"]) == (30, 150, 30)
    assert found["chance"] == pytest.approx(100 / 30)
    assert found["chance"] < found["top1"] <= 100
    assert supervised_probe(tmp_path / "data", clips_per_class=5) == found
    with pytest.raises(InputError, match=r"dataset\.json"):
        supervised_probe(tmp_path)
