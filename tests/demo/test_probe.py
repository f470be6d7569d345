import pytest
import torch

from clep.demo.probe import chance, probe_top1


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


def test_labels_dealt_at_random_give_chance():
    train, label = _clips(0.1, 400, 0)
    shuffled = label[torch.randperm(400, generator=torch.Generator().manual_seed(2))]
    test, truth = torch.randn(2000, 6, generator=torch.Generator().manual_seed(3)), torch.arange(2000) % 4
    assert probe_top1(train, shuffled, test, truth) == pytest.approx(chance(4), abs=5)


def test_seeded():
    data = (*_clips(2.0, 200, 0), *_clips(2.0, 200, 1))
    assert probe_top1(*data, seed=3) == probe_top1(*data, seed=3)


def test_chance():
    assert chance(200) == 0.5
