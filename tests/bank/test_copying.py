import numpy as np
import pytest

from clep.bank import BankWriter, Clock, FeatureBank, copy_video
from clep.errors import InputError


@pytest.mark.parametrize("clock", [Clock(2.0, 1.0), Clock.irregular(0.0), None])
def test_a_copied_video_is_the_same(tmp_path, clock):
    rng = np.random.default_rng(0)
    irregular = clock is not None and clock.rows_per_second is None
    with BankWriter(tmp_path / "a.h5", 3, clock, "float16") as writer:
        for uid, n_rows, duration_s in (("first", 5, None), ("second", 7, 3.3)):
            seconds = np.sort(rng.uniform(0, 9, n_rows)) if irregular else None
            writer.add(uid, rng.standard_normal((n_rows, 3)), seconds, duration_s)
    source = FeatureBank.open(tmp_path / "a.h5")
    with BankWriter(tmp_path / "b.h5", 3, clock, "float16") as writer:
        for uid in ("second", "first"):
            copy_video(source, uid, writer)
        with pytest.raises(InputError, match="third"):
            copy_video(source, "third", writer)
    copy = FeatureBank.open(tmp_path / "b.h5")
    assert copy.videos == ["second", "first"]
    np.testing.assert_array_equal(copy.duration_s, source.duration_s.flip(0))
    for uid in source.videos:
        np.testing.assert_array_equal(copy.video_rows(uid), source.video_rows(uid))
        if irregular:
            np.testing.assert_array_equal(copy.video_seconds(uid), source.video_seconds(uid))
        else:
            assert copy.video_seconds(uid) is None


def test_duration_may_be_a_function_called_after_the_rows(tmp_path):
    seen = []

    def blocks():
        for block in np.ones((3, 2, 4)):
            seen.append(len(block))
            yield block

    with BankWriter(tmp_path / "a.h5", 4, Clock(2.0, 1.0)) as writer:
        writer.add("v", blocks(), duration_s=lambda: float(sum(seen)))
        writer.add("unknown", np.ones((1, 4)), duration_s=lambda: None)
    durations = FeatureBank.open(tmp_path / "a.h5").duration_s.tolist()
    assert durations[0] == 6.0
    assert np.isnan(durations[1])
