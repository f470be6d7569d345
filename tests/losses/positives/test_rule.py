import pytest
import torch

from clep.errors import InputError
from clep.losses import (
    DiagonalPositives,
    PositivesRule,
    TextIdPositives,
    TextSimilarityPositives,
    VerbNounPositives,
)

RULES = [
    DiagonalPositives(),
    TextIdPositives(),
    TextSimilarityPositives(0.2),
    TextSimilarityPositives(0.2, soft=False),
    VerbNounPositives(),
    VerbNounPositives("verb"),
    VerbNounPositives("noun"),
]
KEYS = {
    "text_id": torch.tensor([3, -1, 3, -1, 5, 3]),
    "text": torch.randn(6, 4, generator=torch.Generator().manual_seed(2)),
    "verb": torch.tensor([[1, -1], [1, 2], [-1, -1], [2, 2], [0, -1], [2, 1]]),
    "noun": torch.tensor([[5, 6], [6, -1], [6, 5], [5, -1], [-1, -1], [6, 6]]),
}


def keys_of(rule):
    return {key: KEYS[key] for key in rule.keys} | {"position": torch.arange(6)}


@pytest.mark.parametrize("rule", RULES)
def test_any_block_equals_the_block_of_the_joined_matrix(rule: PositivesRule):
    keys = keys_of(rule)
    whole = rule(keys, keys)
    own = {name: key[2:4] for name, key in keys.items()}
    torch.testing.assert_close(rule(own, keys), whole[2:4])
    torch.testing.assert_close(rule(keys, own), whole[:, 2:4])


@pytest.mark.parametrize("rule", RULES)
def test_pairs_are_positives_the_matrix_is_symmetric_and_weights_are_in_0_to_1(rule: PositivesRule):
    keys = keys_of(rule)
    whole = rule(keys, keys).float()
    assert torch.equal(whole.diagonal(), torch.ones(6))
    torch.testing.assert_close(whole, whole.T)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert rule.keys == () or whole.sum() > 6


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.keys])
def test_a_batch_without_a_key_is_refused_with_the_setting(rule: PositivesRule):
    batch = {**KEYS, "video": torch.ones(6, 3)}
    assert rule.of_batch(batch) == {key: KEYS[key] for key in rule.keys}
    del batch[rule.keys[-1]]
    with pytest.raises(InputError, match=rf"'{rule.keys[-1]}', which the batch lacks.*positives="):
        rule.of_batch(batch)


@pytest.mark.parametrize("rule", RULES)
def test_missing_keys_are_named(rule: PositivesRule):
    keys = keys_of(rule)
    for key in keys:
        with pytest.raises(ValueError, match=key):
            rule(keys, {name: value for name, value in keys.items() if name != key})
