"""Binary cross-entropy over the similarity matrix, averaged over all its entries (Ego4D's research code)."""

from clep.losses.sigmoid import SigmoidLoss


class BCELoss(SigmoidLoss):
    """Mean binary cross-entropy over all n x m pairs of a batch.

    The objective of Ego4D's research code with `use_bce`. That code averages both directions, which are equal, since
    one matrix is the transpose of the other. It equals `SigmoidLoss` divided by the number of texts: one pair in n is a
    positive, so the gradient of the positives shrinks as the batch grows.

    The research code has no bias. Without a bias every pair starts with a probability of about one half, and training
    first pushes all embeddings apart: see `loss=bce`.

    Args:
        chunk: rows processed at a time, None for all.

    Examples:
        >>> import torch
        >>> from clep.losses import BCELoss
        >>> round(float(BCELoss()(torch.eye(4), torch.eye(4), 20.0, bias=torch.tensor(-10.0))), 5)
        5e-05
    """

    def _count(self, videos: int, texts: int) -> int:
        return videos * texts
