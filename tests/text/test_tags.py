import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clep.text import TAG_STYLES, remove_tags, substitute_tags

FORMS = [
    # as written, clean, without tags
    ("#C C puts", "Camera wearer puts", "puts"),
    ("#c c puts", "Camera wearer puts", "puts"),
    ("# C puts", "Camera wearer puts", "puts"),
    ("# C C puts", "Camera wearer puts", "puts"),
    ("#CC puts", "Camera wearer puts", "puts"),
    ("#C  C puts", "Camera wearer puts", "puts"),
    ("#C moves", "Camera wearer moves", "moves"),
    ("C C mixes", "Camera wearer mixes", "mixes"),
    ("3C C places", "Camera wearer places", "places"),
    ("  #C C puts", "Camera wearer puts", "puts"),
    ("-#C C puts", "Camera wearer puts", "puts"),
    (" - C C puts", "Camera wearer puts", "puts"),
    ("##C C puts", "Camera wearer puts", "puts"),
    ("#C C's hand moves", "Camera wearer's hand moves", "'s hand moves"),
    ("#O The man B arranges cards", "The man arranges cards", "The man arranges cards"),
    ("#O a man X", "a man", "a man"),
    ("#O A man X", "A man", "A man"),
    ("#O A man walks", "A man walks", "A man walks"),
    ("#O man Z walks", "man walks", "man walks"),
    ("#O cashier X gives change", "cashier gives change", "cashier gives change"),
    ("#O Lady A sits", "Lady sits", "Lady sits"),
    ("#O person X looks", "person looks", "person looks"),
    ("#Oman X looks", "man looks", "man looks"),
    ("#Operson looks", "person looks", "person looks"),
    ("#Person X looks", "Person looks", "Person looks"),
    ("#Person looks", "Person looks", "Person looks"),
    ("#Other person Y looks", "Other person looks", "Other person looks"),
    ("#O The tall old man B's dog runs", "The tall old man's dog runs", "The tall old man's dog runs"),
    ("#O juggler X throws", "juggler throws", "juggler throws"),
    ("#O The juggler B throws", "The juggler throws", "The juggler throws"),
    ("#O A juggler throws", "A juggler throws", "A juggler throws"),
    ("#O The jugglers throw", "The jugglers throw", "The jugglers throw"),
    ("#O walks", "Other person walks", "walks"),
    ("#O X walks", "Other person walks", "walks"),
    ("#O A walks", "Other person walks", "walks"),
    ("#O", "Other person", ""),
    ("#C C greets #O man X.", "Camera wearer greets man.", "greets man."),
    ("#O gives #C C a cup", "Other person gives Camera wearer a cup", "gives a cup"),
    ("#C C picks #unsure from the bin", "Camera wearer picks something from the bin", "picks from the bin"),
    ("#Unsure falls", "something falls", "falls"),
    ("#C C holds # unsure.", "Camera wearer holds something.", "holds."),
    ("#C C holds #unusre", "Camera wearer holds something", "holds"),
    ("#C C holds #nsure", "Camera wearer holds something", "holds"),
    ("#C C holds #usure", "Camera wearer holds something", "holds"),
    ("#C C holds unsure", "Camera wearer holds something", "holds"),
    ("#C C  folds   a\ttowel ", "Camera wearer folds a towel", "folds a towel"),
]
UNTOUCHED = [
    "puts the Coke from the CD",
    "washes dishes and is done",
    "puts disc C on disc O",
    "gives C a plate",
    "looks at O and C",
    "Carries Oranges",
    "plugs in the USB-C cable",
    "measures surety",
]


@pytest.mark.parametrize(("written", "clean", "removed"), FORMS)
def test_every_form(written: str, clean: str, removed: str) -> None:
    assert substitute_tags(written) == clean
    assert remove_tags(written) == removed


@pytest.mark.parametrize("rest", UNTOUCHED)
@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("", ""),
        ("#C C ", "Camera wearer "),
        ("#C ", "Camera wearer "),
        ("C C ", "Camera wearer "),
        ("#O ", "Other person "),
        ("#O X ", "Other person "),
    ],
)
def test_no_other_letter_is_touched(tag: str, words: str, rest: str) -> None:
    assert substitute_tags(tag + rest) == words + rest
    assert remove_tags(tag + rest) == rest


@pytest.mark.parametrize("person", ["#O man X ", "#O The lady B ", "#Person A "])
@pytest.mark.parametrize("rest", UNTOUCHED)
def test_people_named_by_a_noun_keep_the_rest_of_their_sentence(person: str, rest: str) -> None:
    noun_phrase = " ".join(person.lstrip("#").removeprefix("O ").split()[:-1])
    assert substitute_tags(person + rest) == remove_tags(person + rest) == f"{noun_phrase} {rest}"


def test_tutorial_style_is_the_literal_replacement() -> None:
    assert substitute_tags("#C C puts  #unsure by #O man", "tutorial") == (
        "Camera wearer C puts  something by Other person man"
    )
    assert substitute_tags("#c c sees #Unsure", "tutorial") == "#c c sees #Unsure"


def test_unknown_style() -> None:
    with pytest.raises(ValueError, match="clean, tutorial"):
        substitute_tags("#C C cuts", "cleaned")
    assert TAG_STYLES == ("clean", "tutorial")


LETTERS = ["C", "O", "c", "A", "a", "B", "X", "-", "#", "3C", "#C", "#c", "#CC", "#O", "#Oman", "#unsure", "unsure"]
WORDS = st.sampled_from(["puts", "Coke", "CD", "dishes", "the", "man", "is", "Ocean", "something.", *LETTERS])
PLAIN = st.sampled_from(["puts", "the", "Coke", "CD", "from", "Ocean", "dishes", "C", "O", "is", "on"])
SENTENCES = st.one_of(st.lists(WORDS, max_size=9).map(" ".join), st.text("#CcOo -aAXuns r3e.'", max_size=20))


@given(SENTENCES)
@example("C C C C cuts")
@example("# #C C")
def test_substitution_and_removal_change_nothing_the_second_time(text: str) -> None:
    assert remove_tags(remove_tags(text)) == remove_tags(text)
    clean = substitute_tags(text)
    assert substitute_tags(clean) == clean


@given(SENTENCES)
def test_removal_only_leaves_out(text: str) -> None:
    left = iter(re.sub(r"\s", "", text))
    assert all(character in left for character in re.sub(r"\s", "", remove_tags(text)))


@given(st.lists(PLAIN, min_size=1, max_size=8))
def test_what_follows_the_camera_wearer_stays_as_it_is(words: list[str]) -> None:
    words = ["lifts", *words]
    assert remove_tags("#C C " + " ".join(words)) == " ".join(words)
