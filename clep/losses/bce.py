"""Binary cross-entropy over the similarity matrix, averaged over all its entries (Ego4D's research code)."""

from clep.losses.sigmoid import SigmoidLoss


class BCELoss(SigmoidLoss):
    """Mean binary cross-entropy over all n x m pairs of a batch.

    The objective of Ego4D's research code under `use_bce`, which averages both directions; they are equal, since one
    matrix is the transpose of the other. It is `SigmoidLoss` divided by the number of texts: the share of positives, 1
    in n, and with it the gradient of the positives shrinks as the batch grows.

    That code has no bias. Without one, every pair starts with a probability of about one half, and training first
    pushes all embeddings apart: see `loss=bce`.

    Args:
        chunk: rows at a time, None for all.
    """

    def _count(self, videos: int, texts: int) -> int:
        return videos * texts
