"""What `train.py` can train, one task a file: from a run's settings and data to a LightningModule.

A task is a function `(settings, data) -> module`, named by `conf/task/<name>.yaml`. The module has a `model` with
`metadata` and `save_pretrained`, which the evaluators are given and which the run saves.
"""

from clep.tasks.action_detection import action_detection
from clep.tasks.contrastive import contrastive
from clep.tasks.finetune_video import finetune_video

__all__ = ["action_detection", "contrastive", "finetune_video"]
