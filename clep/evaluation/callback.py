"""Callback that runs evaluators during training."""

import logging
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import cast

import pytorch_lightning as pl

from clep.evaluation.details import Detail
from clep.evaluation.evaluator import Evaluator, add_metrics, coverage_text
from clep.files import write_json
from clep.models import SavedModel

log = logging.getLogger(__name__)


class EvaluatorCallback(pl.Callback):
    """Run evaluators after every validation and log their metrics, so that a checkpoint can be chosen by a metric.

    If the module averages its weights (`ema`), the average is evaluated too, with metric names that start with `ema/`.
    `trainer.val_check_interval=N` sets the frequency.

    Args:
        evaluators: by name.
        prompts_path: file to which the prompts are written once; None for none.

    Attributes:
        coverage: of each evaluator, from its last run.
        keeps_details: set it before a validation whose `details` are wanted.
        details: of all evaluators, on rank 0.

    Examples:
        >>> from clep.evaluation import EvaluatorCallback, KineticsZeroShot
        >>> callback = EvaluatorCallback({"kinetics": KineticsZeroShot("kinetics", "all-tiny-v1")})
        >>> list(callback.prompts())
        ['kinetics']
    """

    def __init__(self, evaluators: Mapping[str, Evaluator], prompts_path: str | Path | None = None) -> None:
        self.evaluators = dict(evaluators)
        self.prompts_path = prompts_path
        self.coverage: dict[str, dict[str, object]] = {}
        self.keeps_details = False
        self.details: list[Detail] = []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Run each evaluator on `pl_module.model`."""
        if trainer.sanity_checking:
            return
        seen: dict[str, float] = {}
        self.details = []
        average = getattr(pl_module, "ema", None)
        # The trained weights come last, so that the files and coverage of an evaluator are theirs.
        measured = ({} if average is None else {"ema/": average}) | {"": pl_module.model}
        for (name, evaluator), (prefix, model) in product(self.evaluators.items(), measured.items()):
            if prefix and not evaluator.depends_on_model:
                continue
            evaluator.progress = trainer.progress_bar_callback is not None and trainer.is_global_zero
            measured_now = evaluator.run(cast(SavedModel, model), self.keeps_details and not prefix)
            metrics = {f"{prefix}{key}": value for key, value in measured_now.items()}
            self.details += [] if prefix else evaluator.details
            add_metrics(seen, metrics, name)
            pl_module.log_dict(metrics, sync_dist=False, rank_zero_only=False, batch_size=1)
            if self.coverage.get(name) != evaluator.coverage and trainer.is_global_zero:
                log.info("Evaluated %s: %s", name, coverage_text(evaluator.coverage))
            self.coverage[name] = dict(evaluator.coverage)
        if self.prompts_path and trainer.is_global_zero:
            write_json(self.prompts_path, self.prompts())
            self.prompts_path = None

    def prompts(self) -> dict[str, dict[str, list[list[str]]]]:
        """Return the prompts: evaluator → prompt set → class → templates."""
        return {name: evaluator.prompts for name, evaluator in self.evaluators.items() if evaluator.prompts}
