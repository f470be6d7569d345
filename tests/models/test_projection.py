import pytest
import torch
from torch import nn

from clep.errors import InputError
from clep.models import ProjectionHead


def test_the_tutorial_head():
    head = ProjectionHead(768, 1536, init="tutorial")
    assert [type(step) for step in head] == [nn.Linear, nn.ReLU, nn.Linear]
    for step, fan_in in ((head[0], 768), (head[2], 1536)):
        assert step.weight.shape == (1536, fan_in)
        assert (step.bias == 0).all()
        bound = 2**0.5 * (6 / (fan_in + 1536)) ** 0.5
        assert 0.99 * bound < step.weight.abs().max() <= bound
        assert step.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


def test_default_init_equals_torch():
    torch.manual_seed(5)
    head = ProjectionHead(6, 4, hidden_dim=8)
    torch.manual_seed(5)
    first, last = nn.Linear(6, 8), nn.Linear(8, 4)
    rows = torch.randn(3, 6)
    assert torch.equal(head(rows), last(first(rows).relu()))


def test_layers_activation_and_dropout():
    assert [type(step) for step in ProjectionHead(3, 2, layers=1)] == [nn.Linear]
    deep = ProjectionHead(3, 2, hidden_dim=5, layers=3, activation="gelu", dropout=0.1)
    assert [type(step) for step in deep] == [nn.Linear, nn.GELU, nn.Dropout, nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    assert deep(torch.randn(2, 7, 3)).shape == (2, 7, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "layers"),
        ({"activation": "relo"}, "relu"),
        ({"init": "xavier"}, "tutorial"),
        ({"out_dim": 0}, "dims"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        ProjectionHead(**{"in_dim": 3, "out_dim": 2, **options})


def test_rows_of_another_bank_are_refused_with_the_remedy():
    with pytest.raises(InputError, match="has in_dim=3, but got rows of dimension 5; set in_dim"):
        ProjectionHead(3, 2)(torch.randn(4, 5))
