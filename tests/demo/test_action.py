import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clep.demo.action import Action, read_action, word_key


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
def test_any_text_can_be_read(text):
    action = read_action(text)
    assert len(action.nouns) <= 3
    assert action == read_action(text)
