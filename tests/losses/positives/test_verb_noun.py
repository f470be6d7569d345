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
def test_it_is_that_sets_meet(texts, share):
    verbs, nouns = [verb for verb, _ in texts], [noun for _, noun in texts]
    keys = {"verb": padded(verbs, 4), "noun": padded(nouns, 3), "position": torch.arange(len(texts))}
    rule = VerbNounPositives(share)
    found = rule({key: keys[key] for key in (*rule.keys, "position")}, keys)
    for i in range(len(texts)):
        for j in range(len(texts)):
            verb, noun = bool({*verbs[i]} & {*verbs[j]}), bool({*nouns[i]} & {*nouns[j]})
            assert bool(found[i, j]) == (i == j or {"both": verb and noun, "verb": verb, "noun": noun}[share])


def test_a_text_without_a_verb_is_right_for_its_own_video_only():
    keys = {"verb": torch.tensor([[-1], [-1]]), "noun": torch.tensor([[2], [2]]), "position": torch.arange(2)}
    assert torch.equal(VerbNounPositives()(keys, keys), torch.eye(2, dtype=torch.bool))


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"positives\.share='all'; choose both, verb, noun"):
        VerbNounPositives("all")
    keys = {"verb": torch.tensor([1, 1]), "noun": torch.tensor([[2], [2]]), "position": torch.arange(2)}
    with pytest.raises(ValueError, match=r"'verb' must be \[b, k\]"):
        VerbNounPositives()(keys, keys)
