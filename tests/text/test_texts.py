import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.text import Texts


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_equal_the_strings(strings: list[str]) -> None:
    texts = Texts.of(strings)
    assert list(texts) == strings == texts[:]
    assert len(texts) == len(strings)
    assert texts[::-2] == strings[::-2]
    assert pickle.loads(pickle.dumps(texts)) == texts == strings
    assert texts.to_arrow().to_pylist() == strings
    assert Texts.from_arrow(texts.to_arrow()) == texts
    if strings:
        assert texts[-1] == texts[np.int64(len(strings) - 1)] == strings[-1]


def test_index_out_of_range() -> None:
    with pytest.raises(IndexError):
        Texts.of(["a"])[1]
    with pytest.raises(IndexError):
        Texts.of(["a"])[-2]


def test_digest_depends_on_texts_boundaries_and_order() -> None:
    assert Texts.of(["ab", "c"]).digest() == Texts.of(["ab", "c"]).digest()
    different = [["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c", ""], ["abc"], []]
    assert len({Texts.of(strings).digest() for strings in different}) == len(different)


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert list(Texts.of(["smiles \ud83d"])) == ["smiles ?"]
