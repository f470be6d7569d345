"""Which parts of a video encoder are trained."""

from clep.errors import InputError
from clep.video.encoder import VideoEncoder


def train_stages(encoder: VideoEncoder, frozen: int | str, checkpointing: bool, key: str) -> bool:
    """Make an encoder trainable but for its first stages, and let it recompute activations where that is asked for.

    Args:
        encoder: is changed.
        frozen: so many of its first stages stay as they are; "all" leaves nothing to train.
        checkpointing: keep only what enters each block, and compute the rest again for the gradient.
        key: of the config that holds these options, for messages.

    Returns:
        Whether nothing of it is trained.

    Raises:
        InputError: there are fewer stages or no blocks, or the two options contradict each other.
    """
    stages = encoder.stages()
    if frozen == "all":
        if checkpointing:
            raise InputError(
                f"{key}.checkpointing=true recomputes activations for the gradient of the encoder, which {key}.frozen="
                f"all leaves without one; use only one of the two"
            )
        encoder.requires_grad_(False)
        return True
    if not isinstance(frozen, int) or not 0 <= frozen < max(1, len(stages)):
        has = f"of {len(stages)} at most {len(stages) - 1}" if stages else "this one does not tell its stages"
        raise InputError(f"{key}.frozen={frozen}: give how many of the encoder's first stages stay, or all; {has}")
    encoder.train()  # it came in evaluation mode, in which nothing is recomputed, and the trainer leaves it so
    if checkpointing:
        encoder.checkpoint_activations()
    kept = [name for stage in stages[:frozen] for name in stage]
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not any(f"{name}.".startswith(f"{one}.") for one in kept))
    return False
