"""Zero-shot Ego-Charades: mAP of first-person, third-person and all videos (Sigurdsson et al., 2018)."""

import logging

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clep.data import LabelledClips
from clep.errors import InputError
from clep.evaluation.zero_shot import ZeroShot
from clep.metrics import charades_map

log = logging.getLogger(__name__)


class EgoCharadesZeroShot(ZeroShot):
    """`zeroshot/ego_charades/<ego|exo|all>/<label|ego_prompt|exo_prompt>/mAP` in percent.

    Scores are ranked across videos with no softmax over a video's classes. A class without a positive video in a
    subset is left out of that subset's mean; `coverage` counts them.
    """

    def score(
        self, clips: LabelledClips, scores: dict[str, Float[Tensor, "clips classes"]], kept: list[int]
    ) -> dict[str, float]:
        """Return the mean average precision of each subset and prompt set."""
        if clips.labels is None or clips.first_person is None:
            raise InputError(
                f"{self.folder / 'clips.h5'} lacks label matrix or first-person flags; "
                f"make it with `python -m clep.preprocess ego_charades`"
            )
        targets, first_person = np.asarray(clips.labels)[kept], np.asarray(clips.first_person)[kept]
        subsets = {"ego": first_person, "exo": ~first_person, "all": np.ones_like(first_person)}
        metrics: dict[str, float] = {}
        for subset, chosen in subsets.items():
            self.coverage[f"{subset} videos"] = int(chosen.sum())
            if not targets[chosen].any():
                log.warning("%s has no labelled %s videos; their mAP is left out", self.folder, subset)
                continue
            self.coverage[f"{subset} classes without positives"] = int((~targets[chosen].any(0)).sum())
            for name, matrix in scores.items():
                mean, _ = charades_map(matrix.numpy()[chosen], targets[chosen])
                metrics[f"zeroshot/ego_charades/{subset}/{name}/mAP"] = mean
        return metrics
