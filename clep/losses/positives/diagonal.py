"""Only a video's own text is right."""

from clep.losses.positives.rule import Keys, Positives, PositivesRule, check_keys, same_pair


class DiagonalPositives(PositivesRule):
    """Count only a moment's own text as right, whatever the other texts say: plain CLIP."""

    @property
    def keys(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Mark each video's own text."""
        check_keys(self, video_keys, text_keys)
        return same_pair(video_keys, text_keys)
