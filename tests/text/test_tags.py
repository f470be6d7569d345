import re
import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clep.text import TAG_STYLES, remove_tags, substitute_tags
from clep.text.tags import is_summary

FORMS = [
    # written, clean, without tags
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
    # from a census of 355,580 real narrations
    ("#OO points", "Other person points", "points"),
    ("#OO X points", "Other person points", "points"),
    ("#OOpoints at it", "Other person points at it", "points at it"),
    ("#CC talks to #OO", "Camera wearer talks to Other person", "talks to"),
    ("#CCtalks", "Camera wearer talks", "talks"),
    ("#C C holds #unknown.", "Camera wearer holds something.", "holds."),
    ("#unsured falls", "something falls", "falls"),
    ("#C C picks #Unssure", "Camera wearer picks something", "picks"),
    ("#C C picks #ub=nsure", "Camera wearer picks something", "picks"),
    ("#C C takes #unsurefrom a box", "Camera wearer takes something from a box", "takes from a box"),
    ("#C C walks #unsurewith a cup", "Camera wearer walks something with a cup", "walks with a cup"),
    ("#C A white car drives past C.", "A white car drives past C.", "A white car drives past C."),
    ("#C C The phone rings", "The phone rings", "The phone rings"),
    ("#C man X walks by", "man walks by", "man walks by"),
    ("#C C mans the stall", "Camera wearer mans the stall", "mans the stall"),
    ("#O hands #C the plate", "Other person hands Camera wearer the plate", "hands the plate"),
    ("#O They talk", "They talk", "They talk"),
    ("#O men X and Y talk", "men X and Y talk", "men X and Y talk"),
    ("#O The two men X, Y and Z talk", "The two men X, Y and Z talk", "The two men X, Y and Z talk"),
    ("#O man X and lady Y talk", "man and lady talk", "man and lady talk"),
    ("#C C talks to #O A and B", "Camera wearer talks to Other people", "talks to"),
    ("#O hand picks a card", "Other person's hand picks a card", "hand picks a card"),
    ("#O X left hand picks a card", "Other person's left hand picks a card", "left hand picks a card"),
    ("#C C hand picks a card", "Camera wearer's hand picks a card", "hand picks a card"),
    ("#C C hand cloth", "Camera wearer hand cloth", "hand cloth"),
    ("#O hands C a cup", "Other person hands C a cup", "hands C a cup"),
    ("#C C looks unsure", "Camera wearer looks unsure", "looks unsure"),
    ("#O man X is very unsure", "man is very unsure", "man is very unsure"),
    ("#C C looks at unsure", "Camera wearer looks at something", "looks at"),
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
def test_other_letters_are_unchanged(tag: str, words: str, rest: str) -> None:
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
    with pytest.raises(ValueError, match="clean, tutorial, raw, none"):
        substitute_tags("#C C cuts", "cleaned")
    assert TAG_STYLES == ("clean", "tutorial", "raw", "none")


def test_raw_style_is_the_text_as_written_and_none_has_no_tags() -> None:
    written = " #C C  puts #unsure by #O man X"
    assert substitute_tags(written, "raw") == written
    assert substitute_tags(written, "none") == remove_tags(written) == "puts by man"


@pytest.mark.parametrize("written", ["#Summary C C was in a room", "# summary: cooks", "##SUMMARY"])
def test_summaries(written: str) -> None:
    assert is_summary(written)
    assert not is_summary(f"#C C reads {written}")
    assert not is_summary(written.lstrip("# "))


HOSTILE = {
    "marks": "#" * 4000,
    "spaced marks": "# " * 4000,
    "marks before a word": "#" * 4000 + "x",
    "wearers": "#C " * 1600,
    "untagged wearers": "C C " * 1600,
    "people": "#O a " * 1600,
    "letters": "#O X, " * 1600,
    "men": "#O man X and man " * 1600,
    "one long word": "#O " + "a" * 10_000,
    "many words": "#O the" + " ab" * 4000,
    "blanks": "#O the" + " " * 10_000 + "man",
    "unsure": "unsure " * 1600,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_time_is_linear_in_the_length(text: str) -> None:
    """Four times the text may take at most twelve times as long; quadratic time would take minutes."""

    def seconds(text: str) -> float:
        times = []
        for _ in range(3):
            begin = time.process_time()
            substitute_tags(text)
            remove_tags(text)
            times.append(time.process_time() - begin)
        return min(times)

    assert seconds(text) < 12 * seconds(text[: len(text) // 4]) + 0.02


LETTERS = ["C", "O", "c", "A", "a", "B", "X", "-", "#", "3C", "#C", "#c", "#CC", "#O", "#Oman", "#unsure", "unsure"]
WORDS = st.sampled_from(["puts", "Coke", "CD", "dishes", "the", "man", "is", "Ocean", "something.", *LETTERS])
PLAIN = st.sampled_from(["puts", "the", "Coke", "CD", "from", "Ocean", "dishes", "C", "O", "is", "on"])
SENTENCES = st.one_of(st.lists(WORDS, max_size=9).map(" ".join), st.text("#CcOo -aAXuns r3e.'", max_size=20))


@given(SENTENCES)
@example("C C C C cuts")
@example("# #C C")
def test_substitution_and_removal_are_idempotent(text: str) -> None:
    assert remove_tags(remove_tags(text)) == remove_tags(text)
    clean = substitute_tags(text)
    assert substitute_tags(clean) == clean


@given(SENTENCES)
def test_removal_gives_a_subsequence(text: str) -> None:
    left = iter(re.sub(r"\s", "", text))
    assert all(character in left for character in re.sub(r"\s", "", remove_tags(text)))


@given(st.lists(PLAIN, min_size=1, max_size=8))
def test_text_after_the_camera_wearer_is_unchanged(words: list[str]) -> None:
    words = ["lifts", *words]
    assert remove_tags("#C C " + " ".join(words)) == " ".join(words)


def test_the_usual_beginning_gives_what_all_rules_give(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    parts = ("#C C ", "#C", "opens ", "hands ", "left ", "both ", "waitress ", "waits ", "a ", "man ", "X ", "unsure ")
    parts = (*parts, "#unsure ", "#O ", "C ", "looks ", "- ", "it", " ")
    texts = ["#C C " * int(random.integers(2)) + "".join(random.choice(parts, 5)) for _ in range(2000)]
    found = [(substitute_tags(text, "clean"), remove_tags(text)) for text in texts]
    monkeypatch.setattr("clep.text.tags._WEARER_ACTS", re.compile(r"(?!)"))
    assert found == [(substitute_tags(text, "clean"), remove_tags(text)) for text in texts]
