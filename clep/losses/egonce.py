"""The objective of EgoVLP: texts of the same action attract, moments of the same scene repel."""

from clep.losses.multi_positive import MultiPositiveNCELoss


class EgoNCELoss(MultiPositiveNCELoss):
    """Contrast with action-aware positives and scene-aware negatives (EgoVLP: Lin et al. 2022, arXiv 2206.01670).

    The arithmetic is that of `MultiPositiveNCELoss`; what makes it EgoNCE are its arguments:

    - action-aware positives: `positives` of `VerbNounPositives`, texts that share a verb and a noun;
    - scene-aware negatives: a batch in which each moment stands with a neighbour of the same video, which is another
      row and column like any other, an anchor too, as in the published code.

    It differs from the published code in three ways. That code takes the logarithm of a sum of softmaxes, which is
    minus infinity once a pair's probability rounds to 0: in float32, at a scale of 100, where its similarity lies 1.1
    below another's; this one uses `logsumexp`. That code adds the two directions; this one takes their mean, as all
    objectives here do. Its temperature is fixed at 0.05; here the scale is the model's.
    """
