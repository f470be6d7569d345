"""EgoVLP's objective: texts of the same action are positives, moments of the same scene are negatives."""

from clep.losses.multi_positive import MultiPositiveNCELoss


class EgoNCELoss(MultiPositiveNCELoss):
    """EgoNCE: action-aware positives and scene-aware negatives (EgoVLP: Lin et al. 2022, arXiv 2206.01670).

    The formula is that of `MultiPositiveNCELoss`; its inputs make it EgoNCE:

    - action-aware positives: `positives` from `VerbNounPositives`, texts that share a verb and a noun;
    - scene-aware negatives: batches from `SceneAware`, in which each moment has a neighbour of the same video. The
      neighbour is a row and column like any other, and a query too, as in the published code.

    Three differences from the published code. It takes the logarithm of a sum of softmaxes, which is minus infinity
    once a pair's probability rounds to 0 (in float32 at scale 100: a similarity 1.1 below the highest); we use
    `logsumexp`, which stays finite. It adds the two directions; we average them, as in all objectives. Its temperature
    is fixed at 0.05; we use the model's scale.

    Examples:
        >>> import torch
        >>> from clep.losses import EgoNCELoss, VerbNounPositives
        >>> keys = {
        ...     "verb": torch.tensor([[0], [0], [1]]),
        ...     "noun": torch.tensor([[5], [5], [5]]),
        ...     "text_id": torch.arange(3),
        ...     "position": torch.arange(3),
        ... }
        >>> positives = VerbNounPositives()(keys, keys)  # the first two texts share verb and noun
        >>> round(float(EgoNCELoss()(torch.eye(3), torch.eye(3), 1.0, positives)), 3)
        0.343
    """
