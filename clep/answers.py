"""What a loaded model returns: moments of videos, hits of a search, scores of classes."""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from jaxtyping import Float
from torch import Tensor


class Moment(NamedTuple):
    """A span of a video: its id, and seconds from its start.

    Examples:
        >>> from clep.answers import Moment
        >>> moment = Moment("kitchen00", 12.0, 16.0)
        >>> moment.end_s - moment.start_s
        4.0
    """

    video: str
    start_s: float
    end_s: float


class Hit(NamedTuple):
    """A moment that a search found.

    Attributes:
        video: id.
        start_s, end_s: seconds from the start of the video.
        score: cosine similarity to the query.
        text: the narration that fits it best, see `NarrationsNear.text`; "" without one.

    Examples:
        >>> import clep
        >>> from clep.bank import FeatureBank
        >>> model, bank = clep.load("model", device="cpu"), FeatureBank.open("features.h5")
        >>> best, second = model.search(bank, "opens the fridge", top=2)
        >>> best.score >= second.score, best.end_s - best.start_s, best.text
        (True, 4.0, '')
    """

    video: str
    start_s: float
    end_s: float
    score: float
    text: str = ""


@dataclass(frozen=True, eq=False)
class Classification:
    """Scores of moments or whole videos for class names.

    Attributes:
        classes: names.
        moments: what was classified, in the order of the scores.
        scores: cosine similarities.
        scale: the model's multiplier of similarities.

    Examples:
        >>> import clep
        >>> from clep.bank import FeatureBank
        >>> model, bank = clep.load("model", device="cpu"), FeatureBank.open("features.h5")
        >>> found = model.classify(bank, ["washing a cup", "opening a door"], videos=["kitchen00"], window_s=20)
        >>> len(found), list(found.to_frame().columns)
        (3, ['video', 'start_s', 'end_s', 'label', 'washing a cup', 'opening a door'])
    """

    classes: list[str]
    moments: list[Moment]
    scores: Float[Tensor, "moments classes"]
    scale: float

    def __len__(self) -> int:
        return len(self.moments)

    @property
    def labels(self) -> list[str]:
        """The class with the highest score of each moment."""
        return [self.classes[index] for index in self.scores.argmax(dim=1).tolist()]

    @property
    def probabilities(self) -> Float[Tensor, "moments classes"]:
        """Softmax over the classes of the scores times the model's scale."""
        return (self.scale * self.scores).softmax(dim=1)

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """Return the best classes of each moment with their scores, best first."""
        scores, index = self.scores.topk(min(k, len(self.classes)), dim=1)
        return [
            [(self.classes[one], score) for one, score in zip(of_moment, some, strict=True)]
            for of_moment, some in zip(index.tolist(), scores.tolist(), strict=True)
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per moment: `video`, `start_s`, `end_s`, `label`, and the score of each class."""
        frame = pd.DataFrame(self.moments, columns=list(Moment._fields))
        frame["label"] = self.labels
        return pd.concat([frame, pd.DataFrame(self.scores.numpy(), columns=self.classes)], axis=1)
