"""What the demo's zero-shot figures are read against: the supervised probe on the same features, and chance."""

import torch

from clep.demo.probe import probe_ceiling
from clep.evaluation import Evaluator
from clep.models import DualEncoder


class ProbeReference(Evaluator):
    """`reference/kinetics/probe_top1` (the ceiling) and `reference/kinetics/chance_top1`, in percent.

    They do not depend on the model, so they are measured once.

    Args:
        world: folder of the demo world.
        clips_per_class: clips that the probe is trained on, of each class.
        seed: of those clips and of the probe.
    """

    depends_on_model = False

    def __init__(self, world: str, clips_per_class: int = 20, seed: int = 0) -> None:
        super().__init__()
        self.world, self.clips_per_class, self.seed = world, clips_per_class, seed
        self._measured: dict[str, float] = {}

    def measure(self, model: DualEncoder) -> dict[str, float]:
        """Return the two figures; `model` is not looked at."""
        if not self._measured:
            with torch.inference_mode(False), torch.enable_grad():  # an evaluation has switched both
                probe = probe_ceiling(self.world, self.clips_per_class, self.seed)
            self.coverage = {
                "clips": probe["test_clips"],
                "classes": probe["classes"],
                "training clips": probe["train_clips"],
            }
            self._measured = {
                "reference/kinetics/probe_top1": probe["top1"],
                "reference/kinetics/chance_top1": probe["chance"],
            }
        return dict(self._measured)
