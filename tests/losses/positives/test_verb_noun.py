import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clep.errors import InputError
from clep.losses import VerbNounPositives


def padded(groups, width):
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in groups])


sets = st.lists(st.integers(0, 3), max_size=3, unique=True)


@given(st.lists(st.tuples(sets, sets), min_size=1, max_size=8), st.sampled_from(["both", "verb", "noun"]))
def test_positives_share_ids(texts, share):
    verbs, nouns = [verb for verb, _ in texts], [noun for _, noun in texts]
    # The first three text ids have two moments each; a negative id is unknown and equals no other.
    text_id = [min(i // 2, 3) if i < 6 else -1 for i in range(len(texts))]
    keys = {
        "verb": padded(verbs, 4),
        "noun": padded(nouns, 3),
        "text_id": torch.tensor(text_id),
        "position": torch.arange(len(texts)),
    }
    rule = VerbNounPositives(share)
    found = rule({key: keys[key] for key in (*rule.keys, "position")}, keys)
    for i in range(len(texts)):
        for j in range(len(texts)):
            verb, noun = bool({*verbs[i]} & {*verbs[j]}), bool({*nouns[i]} & {*nouns[j]})
            own = i == j or text_id[i] == text_id[j] >= 0
            assert bool(found[i, j]) == (own or {"both": verb and noun, "verb": verb, "noun": noun}[share])


def keys_of(verb, noun, text_id):
    return {
        "verb": torch.tensor(verb),
        "noun": torch.tensor(noun),
        "text_id": torch.tensor(text_id),
        "position": torch.arange(len(text_id)),
    }


def test_a_text_without_a_verb_has_only_equal_texts_as_positives():
    """ "C looks around" is a positive of the same sentence, even if the taxonomy lacks its words."""
    keys = keys_of([[-1], [-1], [-1]], [[2], [2], [2]], [7, 8, 7])
    expected = torch.tensor([[True, False, True], [False, True, False], [True, False, True]])
    assert torch.equal(VerbNounPositives()(keys, keys), expected)


def test_invalid_options_and_shapes_are_refused():
    with pytest.raises(InputError, match=r"positives\.share='all'; choose both, verb, noun"):
        VerbNounPositives("all")
    keys = keys_of([1, 1], [[2], [2]], [0, 1])
    with pytest.raises(ValueError, match=r"'verb' must be \[b, k\]"):
        VerbNounPositives()(keys, keys)
