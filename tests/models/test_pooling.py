import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clep.models import masked_mean


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 100))
def test_padding_never_dilutes(lengths, seed):
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
