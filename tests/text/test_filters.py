from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.errors import InputError
from clep.text import Narrations, NarrationTable, Texts, training_moments
from tests.text.sample_table import about, passes, table

CUT, EAT = "#C C cuts the bread", "#C C eats the bread"


def test_reasons_are_counted_once_each(tmp_path: Path) -> None:
    narrations = {
        "a": passes([(1, CUT), (2, "#C C eats"), (9, EAT)], [(1.5, "# C C cuts  the bread"), (5, CUT)]),
        "em": passes([(1, CUT)]),
        "fho": passes([(1, CUT), (2, "#C C eats")], status="redacted"),
        "av": passes([(1, CUT)]),
        "gone": passes([(1, CUT), (2, "#C C eats")], status="redacted"),
        "train": passes([(1, CUT)]),
    }
    videos = [
        about("a"),
        about("em", em="val"),
        about("fho", em="train", fho="test"),
        about("av", av="multi"),
        about("gone"),
        about("train", em="train", fho="train", av="train"),
    ]
    made = table(tmp_path, narrations, videos)
    index, report = training_moments(made)
    kept = [(made.videos[made.video[i]], made.second[i], int(made.passes[i])) for i in index]
    assert kept == [("a", 1.0, 1), ("a", 5.0, 2), ("a", 9.0, 1), ("train", 1.0, 1)]
    assert report == {"narrations": 12, "split": 4, "redacted": 2, "short": 1, "duplicate": 1, "kept": 4}
    assert index.dtype == np.int64

    made.write(tmp_path / "n.arrow")
    opened, opened_report = training_moments(Narrations.open(tmp_path / "n.arrow"))
    assert opened.tolist() == index.tolist()
    assert opened_report == report

    everything, report = training_moments(made, exclude_splits=(), min_words=0, duplicate_s=None, keep_redacted=True)
    assert everything.tolist() == list(range(12))
    assert report["kept"] == 12
    assert training_moments(made, keep_redacted=True)[1]["redacted"] == 0
    assert training_moments(made, exclude_splits=("val",))[1]["split"] == 1


def test_words_are_counted_without_tags(tmp_path: Path) -> None:
    rows = [(1, "#C C cuts bread"), (2, "#C C cuts #unsure"), (3, "#O A man X cuts"), (4, "#C C cuts the CD")]
    made = table(tmp_path, {"a": passes(rows)})
    assert made.second[training_moments(made)[0]].tolist() == [1.0, 3.0, 4.0]
    assert made.second[training_moments(made, min_words=3)[0]].tolist() == [3.0, 4.0]


def test_repetitions_within_one_pass_are_kept(tmp_path: Path) -> None:
    made = table(tmp_path, {"a": passes([(1, CUT), (1.2, CUT), (1.4, CUT)])})
    assert len(training_moments(made)[0]) == 3


def test_duplicate_s_is_inclusive(tmp_path: Path) -> None:
    made = table(tmp_path, {"a": passes([(1, CUT)], [(2, CUT), (2.25, CUT)])})
    assert made.second[training_moments(made)[0]].tolist() == [1.0, 2.25]
    assert made.second[training_moments(made, duplicate_s=1.25)[0]].tolist() == [1.0]
    assert len(training_moments(made, duplicate_s=0)[0]) == 3


def slow_duplicates(made: NarrationTable, within_s: float) -> list[int]:
    kept: list[int] = []
    for number in (1, 2, 3):
        for i in range(len(made)):
            others = [j for j in kept if made.passes[j] < number]
            if made.passes[i] == number and not any(
                made.video[i] == made.video[j]
                and made.text_id[i] == made.text_id[j]
                and abs(made.second[i] - made.second[j]) <= within_s
                for j in others
            ):
                kept.append(i)
    return sorted(kept)


ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(1, 3), st.integers(0, 2)), max_size=40)


@given(ROWS, st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_duplicates_equal_a_slow_search(rows: list[tuple[int, int, int, int]], within_s: float) -> None:
    columns = np.array(sorted(rows), dtype=np.int64).reshape(-1, 4)
    text_id = columns[:, 3].astype(np.int32)
    made = NarrationTable(
        videos=("a", "b", "c"),
        duration_s=np.full(3, 9.0),
        splits={name: np.full(3, "") for name in ("split_em", "split_fho", "split_av")},
        redacted=np.zeros(3, dtype=bool),
        video=columns[:, 0].astype(np.int32),
        second=columns[:, 1] / 2,
        passes=columns[:, 2].astype(np.int8),
        text_id=text_id,
        written_id=text_id,
        texts=Texts.of("xyz"),
        written=Texts.of("xyz"),
        words=np.full(len(rows), 3, dtype=np.int16),
    )
    index, report = training_moments(made, duplicate_s=within_s)
    assert index.tolist() == slow_duplicates(made, within_s)
    assert report["kept"] + report["duplicate"] == report["narrations"] == len(rows)


@pytest.mark.parametrize("wrong", [{"min_words": -1}, {"duplicate_s": -0.1}, {"duplicate_s": float("nan")}])
def test_negative_settings_are_refused(tmp_path: Path, wrong: dict) -> None:
    made = table(tmp_path, {"a": passes([(1, CUT)])})
    with pytest.raises(InputError, match=next(iter(wrong))):
        training_moments(made, **wrong)
