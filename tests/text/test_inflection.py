import pytest

from clep.text.taxonomy import noun_forms, verb_forms


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("picks", "pick"),
        ("washes", "wash"),
        ("closes", "close"),
        ("mixes", "mix"),
        ("slices", "slice"),
        ("carries", "carry"),
        ("ties", "tie"),
        ("goes", "go"),
        ("presses", "press"),
        ("press", "press"),
        ("stirring", "stir"),
        ("washing", "wash"),
        ("slicing", "slice"),
        ("cutting", "cut"),
        ("rolling", "roll"),
        ("stopped", "stop"),
        ("moved", "move"),
        ("dried", "dry"),
        ("lifted", "lift"),
        ("took", "take"),
        ("held", "hold"),
        ("bring", "bring"),
        ("string", "string"),
    ],
)
def test_verbs(word: str, base: str) -> None:
    assert word == verb_forms(word)[0]
    assert base in verb_forms(word)


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("plates", "plate"),
        ("boxes", "box"),
        ("dishes", "dish"),
        ("cherries", "cherry"),
        ("knives", "knife"),
        ("leaves", "leaf"),
        ("potatoes", "potato"),
        ("shoes", "shoe"),
        ("glasses", "glass"),
        ("women", "woman"),
        ("glass", "glass"),
    ],
)
def test_nouns(word: str, base: str) -> None:
    assert base in noun_forms(word)


def test_short_words_and_double_s_are_unchanged() -> None:
    assert noun_forms("glass") == ("glass",)
    assert verb_forms("is") == ("is",)
    assert verb_forms("ring") == ("ring",)
    assert verb_forms("red") == ("red",)
