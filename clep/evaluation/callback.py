"""The one callback that runs evaluators during training."""

import logging
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import cast

import pytorch_lightning as pl

from clep.evaluation.evaluator import Evaluator, refuse_repeated
from clep.files import write_json
from clep.models import SavedModel

log = logging.getLogger(__name__)


class EvaluatorCallback(pl.Callback):
    """Run evaluators after every validation and log what they return, so that a metric can drive ModelCheckpoint.

    Where the module averages its weights (`ema`), the average is measured too, under names that begin with `ema/`.
    How often is the trainer's matter: `trainer.val_check_interval=N`.

    Args:
        evaluators: by a name of the user's choice.
        prompts_path: where the prompts in use are written once; None for nowhere.
    """

    def __init__(self, evaluators: Mapping[str, Evaluator], prompts_path: str | Path | None = None) -> None:
        self.evaluators = dict(evaluators)
        self.prompts_path = prompts_path
        self.coverage: dict[str, dict[str, object]] = {}

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Run each evaluator on the module's `model`."""
        if trainer.sanity_checking:
            return
        seen: dict[str, float] = {}
        average = getattr(pl_module, "ema", None)
        # The trained weights come last: what an evaluator writes down, its files and its coverage, is theirs.
        measured = ({} if average is None else {"ema/": average}) | {"": pl_module.model}
        for (name, evaluator), (prefix, model) in product(self.evaluators.items(), measured.items()):
            if prefix and not evaluator.of_the_model:
                continue
            metrics = {f"{prefix}{key}": value for key, value in evaluator.run(cast(SavedModel, model)).items()}
            refuse_repeated(seen, metrics, name)
            pl_module.log_dict(metrics, sync_dist=False, rank_zero_only=False, batch_size=1)
            if self.coverage.get(name) != evaluator.coverage and trainer.is_global_zero:
                log.info("%s saw %s", name, ", ".join(f"{key} {value}" for key, value in evaluator.coverage.items()))
            self.coverage[name] = dict(evaluator.coverage)
        if self.prompts_path and trainer.is_global_zero:
            write_json(self.prompts_path, self.prompts())
            self.prompts_path = None

    def prompts(self) -> dict[str, dict[str, list[list[str]]]]:
        """Return the sentences in use: evaluator → prompt set → class → templates."""
        return {name: evaluator.prompts for name, evaluator in self.evaluators.items() if evaluator.prompts}
