"""Text-to-video and video-to-text retrieval on held-out narrations."""

from typing import Any

import torch
from torch import Tensor

from clep.bank import FeatureBank
from clep.data import LongTerm, MomentDataset, Source, Window
from clep.data.feature_check import check_bank
from clep.errors import InputError
from clep.evaluation.details import retrieval_details
from clep.evaluation.evaluator import Evaluator, model_device
from clep.metrics.retrieval import retrieval_ranks, summarize_ranks
from clep.models import DualEncoder


class NarrationRetrieval(Evaluator):
    """`val/retrieval/<v2t|t2v>/<r1|r5|r10|median_rank|mean_rank>` in a fixed gallery of held-out moments.

    Equal texts are all correct answers: narrations repeat, so with paired texts alone R@1 could not come near 100 %.
    The metrics depend on the size of the gallery, which `coverage` states.

    Args:
        source: its held-out moments are the gallery.
        size: number of moments in the gallery; all moments if fewer are held out.
        seed: of the random choice of the gallery.
        batch_size: moments encoded at once.

    Raises:
        InputError: `size` is below 2.

    Examples:
        >>> from clep.data import NarrationSource
        >>> from clep.evaluation import NarrationRetrieval
        >>> from clep.models import DualEncoder
        >>> source = NarrationSource("narrations.arrow", "texts.h5", "features.h5", val_fraction=0.25)
        >>> evaluator = NarrationRetrieval(source, size=12)
        >>> metrics = evaluator.run(DualEncoder.from_pretrained("model"))
        >>> "val/retrieval/t2v/r1" in metrics, evaluator.coverage["gallery"]
        (True, 12)
    """

    def __init__(self, source: Source, size: int = 2000, seed: int = 0, batch_size: int = 4096) -> None:
        super().__init__(batch_size)
        if size < 2:
            raise InputError(f"NarrationRetrieval size={size}: a gallery needs at least 2 moments")
        self.source, self.size, self.seed = source, size, seed
        self._opened: tuple[dict[str, Any], MomentDataset] | None = None

    def measure(self, model: DualEncoder) -> dict[str, float]:
        """Return recall in percent, and ranks from 1, in both directions."""
        held_out = self._open(model)
        bank: FeatureBank = held_out.bank
        check_bank(model, bank)
        model.check_sentence_encoder(held_out.texts.encoder)
        device = model_device(model)
        sentences = self.source.sentences() if model.reads_tokens else None
        order = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(self.seed))
        gallery = order[: self.size].sort().values

        def batch_of(which: Tensor) -> dict[str, Tensor]:
            batch = held_out.__getitems__(gallery[which].tolist())
            on_device = {key: value.to(device) for key, value in batch.items()}
            if sentences is not None:
                ids = held_out.moments.text_id[gallery[which].numpy()]
                on_device |= model.tokenize([sentences[text_id] for text_id in ids.tolist()])
            return on_device

        def both(which: Tensor) -> Tensor:
            batch = batch_of(which)
            return torch.cat([model.encode_video(batch), model.encode_text(batch)], dim=1)

        context = held_out.context
        at_once = min(self.batch_size, 512) if model.reads_tokens else self.batch_size
        at_once = at_once if context is None else context.at_once(at_once)
        video, text = self.encode(len(gallery), both, at_once).chunk(2, dim=1)
        text_id = torch.from_numpy(held_out.moments.text_id)[gallery].to(device)
        self.coverage = {
            "gallery": len(gallery),
            "held-out moments": len(held_out),
            "distinct texts": len(text_id.unique()),
        }
        metrics, ranks = {}, {}
        for direction, query, answers in (("v2t", video, text), ("t2v", text, video)):
            ranks[direction] = retrieval_ranks(query, answers, text_id, text_id)
            for name, value in summarize_ranks(ranks[direction]).items():
                metrics[f"val/retrieval/{direction}/{name}"] = value
        moments = held_out.moments.select(gallery.numpy())
        self.record(
            lambda: retrieval_details(
                "val/retrieval",
                *(video, text, text_id, ranks),
                ([bank.videos[index] for index in moments.video.tolist()], moments.start_s, moments.end_s),
                self.source.sentences(),
                float(model.logit_scale),
            )
        )
        return metrics

    def _open(self, model: DualEncoder) -> MomentDataset:
        window, context = Window.of_model(model.metadata), LongTerm.of_model(model.metadata)
        cut = {"window": window, "context": context}
        if self._opened is None or self._opened[0] != cut:
            held_out = self.source.open(window, context=context)[1]
            if held_out is None:
                raise InputError(
                    f"{self.source.title} holds out no videos, so there is no gallery; raise its val_fraction (few "
                    f"videos need more than 0.05), give rows of the split val, or leave the evaluator out"
                )
            self._opened = cut, held_out
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}
