"""Zero-shot Kinetics: top-1 and top-5 accuracy over class prompts (Kay et al., 2017)."""

import torch
from jaxtyping import Float
from torch import Tensor

from clep.data import LabelledClips
from clep.errors import InputError
from clep.evaluation.zero_shot import ZeroShot
from clep.metrics import topk_accuracy


class KineticsZeroShot(ZeroShot):
    """`zeroshot/kinetics/top1` and `top5` in percent, over the clips that have features."""

    def score(
        self, clips: LabelledClips, scores: dict[str, Float[Tensor, "clips classes"]], kept: list[int]
    ) -> dict[str, float]:
        """Return the accuracies of the one prompt set."""
        if clips.label is None:
            raise InputError(f"{self.folder / 'clips.h5'} has several labels a clip; use EgoCharadesZeroShot for it")
        if "prompt" not in scores:
            raise InputError(
                f"{self.folder / f'prompts.{self.text_encoder}.h5'} lacks the prompt set 'prompt' and has "
                f"{', '.join(scores)}; make it again with `python -m clep.preprocess kinetics overwrite=true`"
            )
        target = torch.as_tensor(clips.label)[kept]
        accuracy = topk_accuracy(scores["prompt"], target, ks=(1, 5))
        return {f"zeroshot/kinetics/top{k}": value for k, value in accuracy.items()}
