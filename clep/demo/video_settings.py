"""What a drawn demo world is made of."""

from dataclasses import asdict, dataclass
from typing import Any

from clep.demo.pixels.shapes import THINGS
from clep.errors import InputError

_LEAST_PX = 64


@dataclass(frozen=True)
class VideoWorldSettings:
    """Size of a drawn demo world; the defaults make 24 minutes of video in 19 MB.

    Raises:
        InputError: a value is out of range; the message names it.
    """

    training_videos: int = 36
    """Narrated videos that may be trained on."""
    other_videos: int = 5
    """Narrated videos that may not: in a val, test or multi split of some benchmark, or redacted. A fifth each."""
    shortest_s: int | float = 20.0
    """Seconds of the shortest first-person video."""
    longest_s: int | float = 28.0
    """Seconds of the longest first-person video."""
    unseen_per_verb: int = 3
    """Nouns that each of the 8 verbs is never done to: 3 make 24 never-narrated pairs, the Kinetics classes."""
    kinetics_clips: int = 6
    """Clips of each Kinetics class."""
    kinetics_clip_s: int = 3
    """Seconds of a Kinetics clip."""
    things_in_sight: int = 6
    """Nouns that stand around in a video; only they are acted on."""
    width: int = 256
    """Pixels of a picture, upright and of one lens."""
    height: int = 192
    """Pixels of a picture."""

    def __post_init__(self) -> None:
        # 20 and 20.0 are the same world and must have the same digest.
        object.__setattr__(self, "shortest_s", float(self.shortest_s))
        object.__setattr__(self, "longest_s", float(self.longest_s))
        least = {"training_videos": 1, "other_videos": 0, "kinetics_clips": 1, "kinetics_clip_s": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise InputError(f"drawn demo world: {name} must be at least {smallest}, got {getattr(self, name)}")
        if not 3.0 <= self.shortest_s <= self.longest_s:
            raise InputError(
                f"drawn demo world: need 3 <= shortest_s <= longest_s, got {self.shortest_s} and {self.longest_s}"
            )
        if not 1 <= self.unseen_per_verb < len(THINGS):
            raise InputError(
                f"drawn demo world: unseen_per_verb must be in 1 … {len(THINGS) - 1}, got {self.unseen_per_verb}"
            )
        if not 1 <= self.things_in_sight <= len(THINGS):
            raise InputError(
                f"drawn demo world: things_in_sight must be in 1 … {len(THINGS)}, got {self.things_in_sight}"
            )
        if self.things_in_sight <= self.unseen_per_verb:
            raise InputError(
                f"drawn demo world: things_in_sight={self.things_in_sight} must be more than "
                f"unseen_per_verb={self.unseen_per_verb}, or a video could have nothing to show"
            )
        for name in ("width", "height"):
            if getattr(self, name) < _LEAST_PX or getattr(self, name) % 2:
                raise InputError(
                    f"drawn demo world: {name} must be even and at least {_LEAST_PX}, got {getattr(self, name)}"
                )

    def as_dict(self) -> dict[str, Any]:
        """Give the settings as plain JSON values."""
        return asdict(self)
