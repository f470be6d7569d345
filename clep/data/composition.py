"""Which moments stand together in a batch: the base of the samplers that look at texts, scenes or embeddings."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float64, Int64
from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MomentKeys:
    """What compositions look at: the training moments of all sources, one source after the other.

    Attributes:
        text: equal for equal sentences, of whichever source.
        video: numbers from 0, no two sources sharing one.
        second: of the moment's middle.
        sizes: moments of each source.
    """

    text: Int64[Tensor, " moments"]
    video: Int64[Tensor, " moments"]
    second: Float64[Tensor, " moments"]
    sizes: list[int]

    def __len__(self) -> int:
        return len(self.text)


class Composition(ABC):
    """Makes the batches of an epoch from moments in random order; `data.sampler` chooses one.

    What a composition does depends on its arguments alone (and on what `state` returns), so all ranks arrange the same
    joined batches and a resumed run the same as an uninterrupted one.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, level: int, message: str) -> None:
        """Log a message once, however often the composition is opened."""
        if message not in self._told:
            self._told.add(message)
            log.log(level, "%s", message)

    @abstractmethod
    def open(self, keys: MomentKeys, rows: int, rank_rows: int) -> None:
        """Look at the moments that batches will be made of; done once, before anything is arranged.

        Args:
            keys: of the training moments.
            rows: of a joined batch, of all ranks together.
            rank_rows: of one rank's share.

        Raises:
            InputError: no such batch can be made of these moments.
        """

    def draws(self, moments: int) -> int:
        """Return how many moments an epoch draws at random; what else it holds is the composition's choice."""
        return moments

    def n_batches(self, order: Int64[Tensor, " draws"], moments: int, rows: int) -> int:
        """Return the number of joined batches of every epoch, given the order of the first."""
        return moments // rows

    @abstractmethod
    def arrange(
        self, order: Int64[Tensor, " draws"], n_batches: int, epoch: int, seed: int
    ) -> Int64[Tensor, "batches rows"]:
        """Return the batches of an epoch.

        Args:
            order: what the epoch draws, shuffled and in the proportions of the sources' weights.
            n_batches: to make.
            epoch, seed: of whatever is random in it.
        """

    @abstractmethod
    def plain(self) -> dict[str, Any]:
        """Return the settings, which a checkpoint and the run that continues it must agree on."""

    def state_dict(self) -> dict[str, Any]:
        """Return what was learned about the data since the start, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Continue from what `state_dict` returned."""
