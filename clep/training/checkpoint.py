"""Checkpoints of a run that may continue another."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint


class Checkpoint(ModelCheckpoint):
    """Keep the best weights of a run, those of the run that it continues among them.

    Every run has a folder of its own. Lightning's callback, finding another folder than the one in the state, forgets
    what was best before, and the first checkpoint of the continued run, however bad, becomes the best.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best checkpoint so far, where it is still there; it is never deleted from its folder."""
        if Path(state_dict["best_model_path"]).is_file():
            super().load_state_dict({**state_dict, "dirpath": self.dirpath})
