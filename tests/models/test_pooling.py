import torch
from hypothesis import given
from hypothesis import strategies as st

from clep.models import masked_max, masked_mean
from clep.models.pooling import project_present


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 100))
def test_the_mean_ignores_padding(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(lengths), 5, 3, generator=generator)
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    padded = rows.masked_fill(~mask[..., None], float("nan"))
    mean = masked_mean(padded, mask)
    for i, length in enumerate(lengths):
        expected = rows[i, :length].mean(0) if length else torch.zeros(3)
        torch.testing.assert_close(mean[i], expected)


def test_half_precision_is_summed_in_float32():
    rows = torch.full((1, 4000, 1), 60000.0, dtype=torch.float16)
    assert masked_mean(rows).item() == masked_mean(rows, torch.ones(1, 4000, dtype=torch.bool)).item() == 60000.0
    assert masked_mean(rows).dtype == torch.float32


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 100))
def test_the_maximum_ignores_padding(lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(lengths), 5, 3, generator=generator) - 5
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    largest = masked_max(rows.masked_fill(~mask[..., None], float("nan")), mask)
    for i, length in enumerate(lengths):
        expected = rows[i, :length].amax(0) if length else torch.zeros(3)
        assert torch.equal(largest[i], expected)


def test_pooling_gives_gradients_to_rows_only():
    rows = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(4, 6) < 0.5
    mask[0], mask[1] = False, True
    for pool in (masked_mean, masked_max):
        assert torch.autograd.gradcheck(lambda x, pool=pool: pool(x, mask), rows)


def test_no_windows_and_no_time_steps():
    for pool in (masked_mean, masked_max):
        assert pool(torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.bool)).shape == (0, 2)
        assert torch.equal(pool(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool)), torch.zeros(2, 4))


def test_only_rows_are_projected():
    rows, mask = torch.full((2, 3, 4), float("nan")), torch.tensor([[True, False, True], [False, False, False]])
    rows[mask] = torch.randn(2, 4)
    linear = torch.nn.Linear(4, 5)
    found = project_present(linear, rows, mask)
    torch.testing.assert_close(found[mask], linear(rows[mask]))
    assert not found[~mask].any()
    found.sum().backward()
    assert linear.weight.grad.isfinite().all()


def test_projecting_padding_too_gives_the_same():
    """The path for a GPU, which avoids a sync to count the rows."""
    rows, mask = torch.randn(3, 4, 5), torch.tensor([[True] * 4, [True, False, False, False], [False] * 4])
    rows[1, 2] = torch.nan
    layer = torch.nn.Linear(5, 2)

    def project(some):
        assert some.ndim == 2
        return layer(some)

    for leaf in (some := [rows.clone().requires_grad_() for _ in range(2)]):
        project_present(project, leaf, mask, every=leaf is some[0]).square().sum().backward()
    found = [project_present(project, rows, mask, every=every) for every in (True, False)]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*[leaf.grad for leaf in some])
