"""Binary cross-entropy over the similarity matrix, averaged over all its entries."""

from clep.losses.sigmoid import SigmoidLoss


class BCELoss(SigmoidLoss):
    """Average the binary cross-entropy of every pair of a batch, over all n x m pairs.

    This is the objective of Ego4D's research code under `use_bce`: that computes it for both directions and takes the
    mean, which are the same number, since the matrix of one is the other's, transposed. It is `SigmoidLoss` divided by
    the number of texts: the share of positives in it, 1 in n, and with it their gradient fall with the batch, as the
    sum's of `SigmoidLoss` do not. An optimizer like AdamW does not see that factor, but gradient clipping and a loss
    beside it do. Without a bias, which that code has not, training begins by pushing all pairs apart.
    """

    def _count(self, videos: int, texts: int) -> int:
        return videos * texts
