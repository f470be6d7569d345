"""Accuracy of a video classifier on held-out videos, averaged over views."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from clep.data import LabelledVideoSource
from clep.data.dataset import identity_collate
from clep.data.video_clips import UNREADABLE, FixedViews, note_unreadable
from clep.errors import InputError
from clep.evaluation.details import classification_details
from clep.evaluation.evaluator import Evaluator, gather_shares, model_device, my_share
from clep.metrics import topk_accuracy
from clep.models import SavedModel, VideoClassifier


class VideoAccuracy(Evaluator):
    """`val/top1` and `val/top5` in percent over the held-out videos of a source, with fixed views.

    Args:
        source: its held-out videos are evaluated.
        views: number of equal parts of a video, with one clip each, as in TimeSformer.
        crops: "centre", "three" or "ten" crops of each clip; the probabilities of all views and crops are averaged.
        batch_size: videos per batch, each with all its views and crops.
        num_workers: processes that decode.

    Raises:
        InputError: `batch_size` is below 1.

    Examples:
        >>> from clep.data import LabelledVideoSource
        >>> from clep.evaluation import VideoAccuracy
        >>> from clep.models import VideoClassifier
        >>> from clep.video.encoders import TimeSformer
        >>> encoder = TimeSformer("timesformer", width=None, depth=None, heads=None)
        >>> source = LabelledVideoSource("films/train.csv", val="films/train.csv")
        >>> evaluator = VideoAccuracy(source, crops="centre", num_workers=0)
        >>> sorted(evaluator.run(VideoClassifier(encoder, ["0", "1", "2"])))
        ['val/top1', 'val/top5']
    """

    def __init__(
        self,
        source: LabelledVideoSource,
        views: int = 1,
        crops: str = "three",
        batch_size: int = 8,
        num_workers: int = 2,
    ) -> None:
        super().__init__(batch_size)
        if batch_size < 1:
            raise InputError(f"VideoAccuracy batch_size={batch_size} must be at least 1")
        self.source, self.views, self.crops, self.num_workers = source, views, crops, num_workers
        self.unreadable: dict[str, int] = {}

    def measure(self, model: SavedModel) -> dict[str, float]:
        """Return the accuracies; `source.on_error` decides about videos that cannot be decoded.

        Raises:
            InputError: the model is not a classifier of these classes, no video could be decoded, or logits of decoded
                videos are NaN.
        """
        videos, classes = self.source.open().val, self.source.open().classes
        if not isinstance(model, VideoClassifier):
            raise InputError(f"VideoAccuracy evaluates models of experiment=finetune_video, not {type(model).__name__}")
        if model.classes != classes:
            raise InputError(
                f"the model has {len(model.classes)} classes ({', '.join(model.classes[:3])}, …), and "
                f"{self.source.train} has {len(classes)} ({', '.join(classes[:3])}, …); evaluate with the classes of "
                f"training (data.source.classes=…)"
            )
        dataset = FixedViews(videos, model.encoder.clip, self.views, self.crops)
        share = my_share(len(videos))
        loader = DataLoader(
            Subset(dataset, share.tolist()),
            batch_size=self.batch_size,
            collate_fn=identity_collate,
            num_workers=self.num_workers,
        )
        pieces = [self._scores(model, batch) for batch in self.shown(loader, len(loader))]
        own = torch.cat(pieces) if pieces else torch.zeros(0, len(classes) + 1, device=model_device(model))
        gathered = gather_shares(own, len(videos)).cpu()
        scores, readable = gathered[:, :-1], gathered[:, -1] > 0
        self.coverage = {
            "videos": len(videos),
            "decoded": int(readable.sum()),
            "classes": len(classes),
            "views of a video": len(dataset.blank()),
        }
        if not readable.any():
            reason = next(iter(self.unreadable), f"{videos.paths[0]} and the others (another rank has the reason)")
            raise InputError(f"none of the {len(videos)} held-out videos could be decoded: {reason}")
        self.refuse_nan(scores[readable], "videos")
        accuracy = topk_accuracy(scores[readable], torch.tensor(videos.labels)[readable], ks=(1, 5))
        names = [str(path) for path, good in zip(videos.paths, readable.tolist(), strict=True) if good]
        label = torch.tensor(videos.labels)[readable]
        self.record(lambda: classification_details("val", scores[readable], label, names, classes, scale=1.0))
        return {f"val/top{k}": value for k, value in accuracy.items()}

    def _scores(self, model: VideoClassifier, batch: dict[str, Any]) -> Float[Tensor, "batch classes_and_one"]:
        """Return the log of the mean probabilities and, as the last column, 1 if the video could be decoded, else 0."""
        for reason in batch["unreadable"]:
            note_unreadable(reason, self.source.on_error, self.unreadable)
        logits: Tensor = model({"pixels": batch["pixels"].to(model_device(model))}).float()
        readable = (batch["target"] != UNREADABLE).to(logits)
        return torch.cat([logits, readable[:, None]], dim=1)
