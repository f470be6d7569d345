"""LightningModule of contrastive training, with large batches on small GPUs: towers may encode a batch in chunks."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clep.errors import InputError
from clep.losses import PositivesRule, TextIdPositives, across_ranks, check_objective
from clep.models import DualEncoder
from clep.training.base import BaseModule
from clep.training.optimizer import Schedule, constant

Encode = Callable[[dict[str, Any]], Tensor]
SAME_TEXT = TextIdPositives()


class ContrastiveModule(BaseModule):
    """Trains a `DualEncoder` to match moments with their texts.

    Args:
        model: the two towers and the logit scale.
        loss: an objective of `clep.losses`, called as `loss(video, text, scale, positives, bias)`.
        optimizer: builds the optimizer of a model.
        schedule: factor of the learning rate as a function of the step and the number of steps.
        positives: which texts of a batch are positives of which moments.
        form: of the loss across ranks, "global" or "local"; both have the gradient of one process with the joined
            batch.
        patience: this many non-finite losses in a row stop the run.
        ema: decay of an average of the weights, see `BaseModule`.
        chunk_size: moments that a tower encodes at once, see `encode_in_chunks`; None for the whole batch.

    Examples:
        >>> import torch
        >>> from clep.losses import ClipLoss
        >>> from clep.models import DualEncoder
        >>> from clep.training import ContrastiveModule, adamw, warmup_cosine
        >>> model = DualEncoder.from_pretrained("model")
        >>> module = ContrastiveModule(model, ClipLoss(), lambda model: adamw(model, lr=1e-3), warmup_cosine(0.05))
        >>> batch = {"video": torch.randn(4, 12), "text": torch.randn(4, 8), "text_id": torch.arange(4)}
        >>> module.compute_loss(batch).shape
        torch.Size([])
    """

    def __init__(
        self,
        model: DualEncoder,
        loss: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Schedule = constant,
        positives: PositivesRule = SAME_TEXT,
        form: Literal["global", "local"] = "global",
        patience: int = 10,
        ema: float | int | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(model, optimizer, schedule, patience, ema)
        check_chunk_size(chunk_size)
        self.chunk_size = chunk_size
        self.model: DualEncoder
        check_objective(loss, form, model.logit_bias is not None)
        # The sampler gives every rank batches of one size; comparing sizes would wait for the GPU.
        self.loss = across_ranks(loss, form, positives, check_sizes=False)
        self.positives = positives
        # In the local form a rank's value is its share; their mean is the loss of the joined batch.
        self.loss_is_a_share = self.loss.form == "local"

    def compute_loss(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Return the loss of one batch (of all ranks' batches together)."""
        towers = (self.model.encode_video, self.model.encode_text)
        video, text = (
            encode(batch) if self.chunk_size is None else encode_in_chunks(encode, batch, self.chunk_size)
            for encode in towers
        )
        return self.loss(video, text, self.model.logit_scale, self.positives.of_batch(batch), self.model.logit_bias)

    def on_fit_start(self) -> None:
        """Refuse to encode in chunks what must be encoded as one batch."""
        if self.chunk_size is not None:
            refuse_batch_norm(self.model)

    def after_step(self) -> None:
        """Clamp the logit scale to its bounds."""
        self.model.clamp_scale()

    def log_more(self) -> None:
        """Log the logit scale, and the bias if there is one."""
        self.log("train/logit_scale", self.model.logit_scale.detach())
        if self.model.logit_bias is not None:
            self.log("train/logit_bias", self.model.logit_bias.detach())


def encode_in_chunks(encode: Encode, batch: dict[str, Any], chunk_size: int) -> Float[Tensor, "batch embed"]:
    """Return `encode(batch)` with the activation memory of one chunk; value and gradient are those of the whole batch.

    A contrastive loss needs the embeddings of the whole batch, which are small, but not the towers' activations. The
    forward pass keeps the embeddings alone; the backward pass encodes each chunk again, with the random state and the
    autocast of the first time (Chen et al., 2016, "Training deep nets with sublinear memory cost"; for contrastive
    learning Gao et al., 2021, "Scaling deep contrastive learning batch size under memory limited setup"). It costs a
    second forward pass. Without gradients the chunks are encoded once.

    Args:
        encode: from a batch to one embedding per moment: `encode_video` or `encode_text` of a model.
        batch: tensors with one entry per moment are cut into chunks, everything else is passed on unchanged.
        chunk_size: moments encoded at once.
    """
    if chunk_size >= len(batch["moment"]):
        return encode(batch)
    if not torch.is_grad_enabled():
        return torch.cat([encode(chunk) for chunk in chunks(batch, chunk_size)])
    return torch.cat([checkpoint(encode, chunk, use_reentrant=False) for chunk in chunks(batch, chunk_size)])


def chunks(batch: dict[str, Any], chunk_size: int) -> Iterator[dict[str, Any]]:
    """Yield the batch in views of `chunk_size` moments; the last one may be shorter."""
    length = len(batch["moment"])
    tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor) and value.ndim}
    # Rows [rows, d] that all moments share have a mask [batch, rows], and may be as many as the moments by chance.
    shared = {key for key, value in tensors.items() if value.ndim == 2 and f"{key}_mask" in batch}
    cut = {key for key, value in tensors.items() if len(value) == length} - shared
    for begin in range(0, length, chunk_size):
        yield {key: value[begin : begin + chunk_size] if key in cut else value for key, value in batch.items()}


def check_chunk_size(chunk_size: int | None) -> None:
    """Refuse a chunk size below 1.

    Raises:
        InputError: it is below 1.
    """
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size={chunk_size} must be at least 1, or null to encode the whole batch at once")


def refuse_batch_norm(model: nn.Module) -> None:
    """Refuse a model in which embeddings depend on the rest of the batch, or change when encoded twice.

    Raises:
        InputError: a batch norm that is trained; the message names it.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise InputError(
                f"chunk_size cannot be used with model.{name}, a batch norm: its statistics would be those of a chunk, "
                f"and each chunk would count twice; keep it in evaluation mode (frozen), or lower data.batch_size"
            )
