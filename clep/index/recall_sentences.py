"""Sentences with which the recall of an approximate search is measured."""

_VERBS = (
    *("opens", "closes", "picks up", "puts down", "washes", "cuts", "turns on", "turns off", "wipes", "pours"),
    *("looks at", "moves", "holds", "throws", "folds", "stirs"),
)
_OBJECTS = (
    *("the fridge", "the door", "a cup", "a knife", "the tap", "the bag", "a phone", "the drawer", "a cloth"),
    *("the pan", "the ball", "the box"),
)
RECALL_SENTENCES = tuple(f"{verb} {thing}" for verb in _VERBS for thing in _OBJECTS)
"""192 sentences of everyday actions."""
