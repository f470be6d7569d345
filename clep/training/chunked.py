"""Large batches on small GPUs: encode chunk by chunk, and encode again when gradients are asked for."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clep.errors import InputError

Encode = Callable[[dict[str, Any]], Tensor]


def encode_in_chunks(encode: Encode, batch: dict[str, Any], chunk_size: int) -> Float[Tensor, "batch embed"]:
    """Return `encode(batch)` with the memory of a chunk's activations, value and gradient those of the whole batch.

    A contrastive loss needs the embeddings of the whole batch, which are small, and not what the towers computed on
    the way. The forward pass keeps the embeddings alone; the backward pass encodes each chunk again, with the random
    numbers and the autocast of the first time (Chen et al., 2016, "Training deep nets with sublinear memory cost"; for
    contrastive learning Gao et al., 2021, "Scaling deep contrastive learning batch size under memory limited setup").
    It costs a second forward pass. Without gradients the chunks are encoded once.

    Args:
        encode: from a batch to embeddings, each by itself: `encode_video` or `encode_text` of a model.
        batch: every tensor in it that is as long as `moment` is cut, anything else is handed over whole.
        chunk_size: moments encoded at once.
    """
    if chunk_size >= len(batch["moment"]):
        return encode(batch)
    if not torch.is_grad_enabled():
        return torch.cat([encode(chunk) for chunk in chunks(batch, chunk_size)])
    return torch.cat([checkpoint(encode, chunk, use_reentrant=False) for chunk in chunks(batch, chunk_size)])


def check_chunk_size(chunk_size: int | None) -> None:
    """Refuse chunks of nothing.

    Raises:
        InputError: it is below 1.
    """
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size={chunk_size} must be at least 1, or null to encode the whole batch at once")


def refuse_batch_norm(model: nn.Module) -> None:
    """Refuse a model in which the examples of a batch change each other's embeddings, or encoding twice changes it.

    Raises:
        InputError: a batch norm that is trained; the message names it.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise InputError(
                f"chunk_size is not for model.{name}, a batch norm: its means would be a chunk's, and it would count "
                f"each chunk twice; keep it in evaluation mode (frozen), or lower data.batch_size"
            )


def chunks(batch: dict[str, Any], chunk_size: int) -> Iterator[dict[str, Any]]:
    """Yield the batch in pieces of `chunk_size` moments, the last one maybe shorter; they are views, not copies."""
    length = len(batch["moment"])
    tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor) and value.ndim}
    # Rows [rows, d] that all moments share have a mask [batch, rows], and may be as many as the moments by chance.
    shared = {key for key, value in tensors.items() if value.ndim == 2 and f"{key}_mask" in batch}
    cut = {key for key, value in tensors.items() if len(value) == length} - shared
    for begin in range(0, length, chunk_size):
        yield {key: value[begin : begin + chunk_size] if key in cut else value for key, value in batch.items()}
