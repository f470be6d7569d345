import numpy as np

from clep.text import GroupIds


def test_sets_and_their_padded_table() -> None:
    groups = GroupIds.of([[7, 3, 7], [], [0]])
    assert len(groups) == 3
    assert [groups[i] for i in range(3)] == [[3, 7], [], [0]]
    assert groups.widest == 2
    np.testing.assert_array_equal(groups.padded(3), [[3, 7, -1], [-1, -1, -1], [0, -1, -1]])


def test_no_text_and_no_id() -> None:
    assert GroupIds.of([]).widest == 0
    assert GroupIds.of([[], []]).padded(1).tolist() == [[-1], [-1]]
