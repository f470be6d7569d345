import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clep.demo.grammar import (
    NOUNS,
    PLACES,
    VERBS,
    Action,
    action_of,
    charades_class,
    kinetics_label,
    narrate,
    read_action,
    unseen_pairs,
    word_key,
)


def test_words_have_distinct_keys():
    assert (len(VERBS), len(NOUNS), len(PLACES)) == (30, 40, 10)
    assert len({verb.key for verb in VERBS}) == 30
    assert len({word_key(noun) for noun in NOUNS}) == 40


def test_every_form_of_a_pair_is_parsed_as_the_same_action():
    for verb in range(len(VERBS)):
        for noun in range(len(NOUNS)):
            action = action_of(verb, noun)
            assert read_action(kinetics_label(verb, noun)) == action
            assert read_action(charades_class(verb, noun)) == action
            assert read_action(charades_class(verb, noun, someone=True)) == action
            assert read_action(f"#C C {VERBS[verb].third} the {NOUNS[noun]}") == action


def _narrated(by_other: bool, unsure: bool, count: int = 3000) -> list[str]:
    return narrate(
        np.random.default_rng(0),
        np.arange(count) % len(VERBS),
        np.arange(count) % len(NOUNS),
        np.arange(count) % len(PLACES),
        np.full(count, by_other),
        np.full(count, unsure),
    )


def test_narrations_have_many_phrasings_of_an_action():
    texts = _narrated(by_other=False, unsure=False)
    for i, text in enumerate(texts):
        read, meant = read_action(text), action_of(i % len(VERBS), i % len(NOUNS))
        assert (read.verb, read.nouns[0], read.by_other) == (meant.verb, meant.nouns[0], False)
    phrasings = Counter(re.sub(r"\b(" + "|".join(NOUNS) + r")\b", "NOUN", text.split("C ")[-1]) for text in texts)
    assert len(phrasings) > 300
    assert len(set(texts)) < len(texts), "exact repeats occur"
    tags = {text[: text.index(re.sub(r"^# ?[cC]\s*[cC] ", "", text))] for text in texts}
    assert tags == {"#C C ", "#c c ", "#C  C ", "# C C "}


def test_articles():
    texts = _narrated(by_other=False, unsure=False)
    assert any("an onion" in text for text in texts)
    assert not any(re.search(r"\ba [aeiou]", text) for text in texts)


def test_other_people_and_unsure():
    for text in _narrated(by_other=True, unsure=False, count=200):
        assert text.startswith("#O ")
        assert read_action(text).by_other
    for i, text in enumerate(_narrated(by_other=False, unsure=True)):
        assert "#unsure" in text
        assert not re.search(rf"\b{NOUNS[i % len(NOUNS)]}\b", text)
        assert "{" not in text
        assert "the #" not in text


@pytest.mark.parametrize("seed", range(5))
def test_unseen_pairs_leave_every_word_most_of_its_partners(seed):
    pairs = unseen_pairs(np.random.default_rng(seed))
    assert len(set(pairs)) == len(pairs) == 210
    assert set(Counter(verb for verb, _ in pairs).values()) == {7}
    assert max(Counter(noun for _, noun in pairs).values()) <= 6
    assert {noun for _, noun in pairs} == set(range(40))


def test_unseen_pairs_must_leave_a_noun():
    with pytest.raises(ValueError, match="per_verb"):
        unseen_pairs(np.random.default_rng(0), 40)


@pytest.mark.parametrize(
    "forms",
    [
        ("slice", "slices", "sliced", "slicing"),
        ("cut", "cuts", "cutting"),
        ("carry", "carries", "carried", "carrying"),
        ("press", "presses", "pressing"),
        ("tie", "ties", "tied", "tying"),
        ("wash", "washes", "washed", "washing"),
        ("tomato", "tomatoes"),
        ("cup", "cups"),
    ],
)
def test_forms_of_a_word_share_a_key(forms):
    keys = {word_key(form).removesuffix("o") for form in forms}
    assert len(keys) == 1


def test_short_words_are_not_mutilated():
    assert word_key("bring") == "bring"
    assert word_key("glass") != word_key("glad")
    assert word_key("need") == word_key("needs")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("#C C opens the door", Action("open", ("door",))),
        ("# C C  opens a door", Action("open", ("door",))),
        ("#O The man B opens the door", Action("open", ("door",), True)),
        ("#O person X opens the red door", Action("open", ("door",), True)),
        ("#C C picks up a cup from the table", Action("pick up", ("cup", "tabl"))),
        ("picking up cup", Action("pick up", ("cup",))),
        ("Someone is opening a bottle", Action("open", ("bottl",))),
        ("#C C lifts #unsure", Action("lift", ())),
        ("#C C", Action("", ())),
        ("", Action("", ())),
    ],
)
def test_read_action(text, action):
    assert read_action(text) == action


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_text_can_be_parsed(text):
    action = read_action(text)
    assert len(action.nouns) <= 3
    assert action == read_action(text)
