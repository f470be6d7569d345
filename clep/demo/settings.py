"""What a demo world is made of."""

from dataclasses import asdict, dataclass, field
from typing import Any

from clep.demo.frozen_encoder import EncoderSettings
from clep.demo.grammar import NOUNS, VERBS
from clep.errors import InputError

FEATURE_DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class WorldSettings:
    """Size and difficulty of a demo world; the defaults take about 360 MB.

    Raises:
        InputError: a value is out of range; the message names it.
    """

    training_videos: int = 120
    """Narrated videos that may be trained on."""
    other_videos: int = 20
    """Narrated videos that may not: in a val, test or multi split of some benchmark, or redacted. A fifth each."""
    shortest_s: int | float = 210.0
    """Seconds of the shortest video."""
    longest_s: int | float = 330.0
    """Seconds of the longest video."""
    unseen_per_verb: int = 7
    """Nouns that each of the 30 verbs is never narrated with: 7 make 210 never-narrated pairs, the Kinetics classes."""
    kinetics_clips: int = 10
    """Ten-second clips of each Kinetics class."""
    charades_classes: int = 157
    """Classes of the Charades-like set; about two thirds are never-narrated pairs, the others are narrated ones."""
    charades_scripts: int = 120
    """Scripts of the Charades-like set; each is filmed twice, in first and in third person."""
    feature_dtype: str = "float16"
    """Number format of the .pt files: float32 as Ego4D's own, or float16, half as large on disk."""
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """How the simulated frozen encoder sees: the difficulty of the world."""

    def __post_init__(self) -> None:
        # 210 and 210.0 are the same world and must have the same digest.
        object.__setattr__(self, "shortest_s", float(self.shortest_s))
        object.__setattr__(self, "longest_s", float(self.longest_s))
        least = {"training_videos": 1, "other_videos": 0, "kinetics_clips": 1, "charades_scripts": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise InputError(f"demo world: {name} must be at least {smallest}, got {getattr(self, name)}")
        if not 10.0 <= self.shortest_s <= self.longest_s:
            raise InputError(
                f"demo world: need 10 <= shortest_s <= longest_s, got {self.shortest_s} and {self.longest_s}"
            )
        if not 1 <= self.unseen_per_verb < len(NOUNS):
            raise InputError(f"demo world: unseen_per_verb must be in 1 … {len(NOUNS) - 1}, got {self.unseen_per_verb}")
        if not 1 <= self.charades_classes <= 999 or self.charades_classes > 3 * self.unseen_per_verb * len(VERBS) // 2:
            raise InputError(
                f"demo world: charades_classes={self.charades_classes} needs two thirds as many never-narrated pairs; "
                f"there are {self.unseen_per_verb * len(VERBS)}: lower it or raise unseen_per_verb"
            )
        if self.feature_dtype not in FEATURE_DTYPES:
            raise InputError(f"demo world: feature_dtype must be one of {FEATURE_DTYPES}, got {self.feature_dtype!r}")

    def as_dict(self) -> dict[str, Any]:
        """Give the settings as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "WorldSettings":
        """Rebuild settings from `as_dict`."""
        return cls(**{**values, "encoder": EncoderSettings(**values["encoder"])})
