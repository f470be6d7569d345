import pytest

from clep.errors import InputError
from clep.extraction.ledger import (
    Entry,
    Journal,
    ProgressReader,
    read_intact_entries,
    read_ledger,
    read_lines,
    write_ledger,
)


def test_entries_survive_writing_and_reading(tmp_path):
    entries = [Entry("é/1", "done", rows=3, video_s=1.5, seconds=0.2, fingerprint="9-ab"), Entry("b", "failed", "why")]
    write_ledger(tmp_path / "l.jsonl", entries)
    assert read_ledger(tmp_path / "l.jsonl") == entries
    write_ledger(tmp_path / "l.jsonl", [])
    assert read_ledger(tmp_path / "l.jsonl") == []


@pytest.mark.parametrize("text", ["{}\n", "nonsense\n", '{"id": "a", "status": "done", "colour": 3}\n'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "l.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"line 1|cannot be read"):
        read_ledger(tmp_path / "l.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_ledger(tmp_path / "none.jsonl")


@pytest.mark.parametrize("bit", [0, 3, 6])
def test_every_flipped_bit_is_detected_and_loses_one_line(tmp_path, bit, caplog):
    path = tmp_path / "l.jsonl"
    entries = [Entry("é/1", "done", rows=3, video_s=1.5), Entry("b", "failed", "why", final=False), Entry("c", "done")]
    write_ledger(path, entries)
    whole = path.read_bytes()
    for position in range(len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        if whole[position] == ord("\n"):
            continue  # two lines become one
        with pytest.raises(InputError, match=r"l\.jsonl, line \d.*run the job again"):
            read_ledger(path)
        intact = read_intact_entries(path)
        assert len(intact) >= 2
        assert all(entry in entries for entry in intact)
    assert "damaged lines" in caplog.text


def test_a_journal_lists_the_videos_to_skip(tmp_path):
    journal = Journal(tmp_path / "j")
    for attempts in (1, 2):
        journal.begin("a")
        journal.finish(Entry("a", "done"))
        journal.begin("c")
        journal.stop("c", had_whole_time_limit=False)
        journal.begin("b")
        assert list(journal.items_to_leave_out()) == ["b"][: attempts - 1]
    assert "2 attempts ended" in journal.items_to_leave_out()["b"]
    journal.finish(Entry("b", "failed"))
    assert journal.items_to_leave_out() == {}
    journal.begin("c")
    journal.stop("c", had_whole_time_limit=True)
    assert journal.items_to_leave_out() == {"c": "it takes longer than the time limit of a task"}


def test_items_under_way_at_a_crash_are_suspects_until_they_are_finished(tmp_path):
    journal = Journal(tmp_path / "j")
    for name in "abc":
        journal.begin(name)
    journal.finish(Entry("a", "done"))
    assert journal.suspects() == {"b", "c"}
    assert journal.items_to_leave_out() == {}
    journal.begin("b")
    journal.finish(Entry("b", "done"))
    journal.begin("c")
    assert list(journal.items_to_leave_out()) == ["c"]


def test_a_partial_line_is_read_once_it_is_complete(tmp_path):
    path = tmp_path / "j"
    path.write_text('not json\n{"begins": "a"}\n{"beg')
    lines, at = read_lines(path, 0)
    assert lines == [{"begins": "a"}]
    path.write_text('not json\n{"begins": "a"}\n{"begins": "b"}\n')
    assert read_lines(path, at)[0] == [{"begins": "b"}]
    assert read_lines(tmp_path / "none", 5) == ([], 5)


def test_the_reader_counts_each_video_once(tmp_path):
    journals = [Journal(tmp_path / name) for name in "xy"]
    reader = ProgressReader([journal.path for journal in journals])
    for journal, video in zip(journals, "ab", strict=True):
        journal.begin(video)
        journal.finish(Entry(video, "done", video_s=1800.0))
    reader.update()
    journals[0].finish(Entry("a", "done", video_s=1800.0))  # a second attempt of the same shard
    reader.update()
    assert reader.status == {"a": "done", "b": "done"}
    assert reader.video_s == 3600.0
    assert reader.hours_per_hour() > 1
